//! Addresses inside the network that this machine stands in. A server outside may not send us there: what
//! answers may be meant for this machine alone, such as a cloud's metadata.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

/// Whether a host is inside, by any of its addresses. One that has no address here is for a proxy to find.
pub async fn leads_inside(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return is_inside(address);
    }
    let port = url.port_or_known_default().unwrap_or(443);
    lookup_host((host, port)).await.is_ok_and(|mut found| found.any(|address| is_inside(address.ip())))
}

/// Finds the addresses of hosts outside alone: a name that was looked up before cannot lead inside later. What is an
/// address itself is not looked up: [`leads_inside`] knows it.
#[derive(Clone, Copy, Debug)]
pub struct Outside;

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_inside(address.ip())) {
                let reason = format!("`{}` has an address inside this machine's own network", name.as_str());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_inside_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_inside_v4(address),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            }
        },
    }
}

fn is_inside_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // 100.64.0.0/10 is shared by a provider's customers
    let is_shared = first == 100 && second & 0xc0 == 64;
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || is_shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_inside_are_known() {
        for inside in [
            "http://169.254.169.254/latest/meta-data",
            "http://127.0.0.1:1",
            "http://localhost",
            "https://10.1.2.3",
            "https://172.16.0.1",
            "https://192.168.1.1",
            "https://100.64.0.1",
            "https://0.0.0.0",
            "https://[::1]",
            "https://[fd00::1]",
            "https://[fe80::1]",
            "https://[::ffff:10.0.0.1]",
            // the URL standard reads these as 127.0.0.1
            "http://2130706433",
            "http://0x7f.1",
        ] {
            assert!(leads_inside(&Url::parse(inside).unwrap()).await, "{inside}");
        }
        for outside in
            ["https://8.8.8.8", "https://172.32.0.1", "https://[2606:4700::1]", "https://nowhere.invalid"]
        {
            assert!(!leads_inside(&Url::parse(outside).unwrap()).await, "{outside}");
        }
    }
}
