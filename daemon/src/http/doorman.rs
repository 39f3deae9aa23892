//! Limits before a token is known, by the address of the caller: of wrong tokens, and of what is answered
//! without one.
//!
//! An address that sent too many wrong tokens may go on with those that were good a while ago: behind a
//! proxy all callers have one address.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{StatusCode, header};
use dpg_api::Code;
use sha2::{Digest, Sha256};

use super::credential;
use super::limiter::Limiter;
use super::problem::Refusal;
use crate::settings::config::Limits;

/// Good tokens that are remembered.
const MOST: usize = 4096;
/// Routes without a token whose answers ask the queue or the store.
const COSTLY: [&str; 2] = ["/metrics", "/readyz"];

/// Who calls, as far as the connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Peer {
    pub(crate) fn of(extensions: &axum::http::Extensions) -> Self {
        extensions.get::<Self>().copied().unwrap_or(Self(Ipv4Addr::UNSPECIFIED.into()))
    }

    /// What counts as one address: the holder of an IPv6 address has a whole network of them.
    pub(crate) fn key(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        }
    }
}

/// What a request has for a token, hashed.
type Knock = [u8; 32];

/// The limits.
pub(crate) struct Doorman {
    failures: Limiter<IpAddr>,
    anonymous: Limiter<IpAddr>,
    good: Mutex<HashSet<Knock>>,
}

/// A request that was let in as far as to its handler.
pub(crate) struct Guest {
    address: IpAddr,
    knock: Option<Knock>,
}

impl Doorman {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            failures: Limiter::new(limits.failures_per_minute),
            anonymous: Limiter::new(limits.requests_per_minute),
            good: Mutex::default(),
        }
    }

    /// Lets a request in, or refuses its address.
    pub(crate) fn greet(&self, request: &Request, route: &str) -> Result<Guest, Refusal> {
        let address = Peer::of(request.extensions()).key();
        let knock = credential::knock(request.headers()).map(|value| Knock::from(Sha256::digest(value)));
        let now = Instant::now();
        let wait = match &knock {
            Some(knock) if self.good().contains(knock) => None,
            Some(_) => self.failures.wait(address, now),
            None if COSTLY.contains(&route) => self.anonymous.take(address, now),
            None => None,
        };
        match wait {
            Some(wait) => Err(refusal(wait)),
            None => Ok(Guest { address, knock }),
        }
    }

    /// Remembers what became of a request.
    pub(crate) fn saw(&self, guest: Guest, status: StatusCode) {
        let Some(knock) = guest.knock else { return };
        if status == StatusCode::UNAUTHORIZED {
            self.good().remove(&knock);
            self.failures.take(guest.address, Instant::now());
        } else if status.is_success() {
            let mut good = self.good();
            if good.len() >= MOST {
                good.clear();
            }
            good.insert(knock);
        }
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashSet<Knock>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(wait: Duration) -> Refusal {
    let seconds = wait.as_secs_f64().ceil();
    Refusal::new(Code::TooManyRequests, "too many requests of this address had no good token")
        .hint(format!("wait {seconds} s, and check the token"))
        .with(header::RETRY_AFTER, &seconds.to_string())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(address: &str, token: &str) -> Request {
        let mut request =
            Request::get("/v1/jobs").header("authorization", token).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer(address.parse().unwrap()));
        request
    }

    #[test]
    fn guessing_is_slow_and_keeps_out_nobody_with_a_good_token() {
        let doorman = Doorman::new(&Limits { failures_per_minute: 3, ..Limits::default() });
        let ask = |address: &str, token: &str, status| {
            let greeted = doorman.greet(&request(address, token), "/v1/jobs");
            greeted.map(|guest| doorman.saw(guest, status)).is_ok()
        };
        let (good, wrong) = (StatusCode::OK, StatusCode::UNAUTHORIZED);
        assert!(ask("10.0.0.1", "good", good));
        for guess in 0..3 {
            assert!(ask("10.0.0.1", &format!("guess {guess}"), wrong), "{guess}");
        }
        assert!(!ask("10.0.0.1", "guess 4", wrong));
        assert!(ask("10.0.0.1", "good", good) && ask("10.0.0.2", "guess", wrong));
        // revoked meanwhile
        assert!(ask("10.0.0.1", "good", wrong) && !ask("10.0.0.1", "good", wrong));
        // all addresses of one IPv6 network are one
        for guess in 0..3 {
            assert!(ask(&format!("2001:db8::{guess}"), &format!("guess {guess}"), wrong));
        }
        assert!(!ask("2001:db8::ffff", "guess", wrong) && ask("2001:db8:0:1::1", "guess", wrong));
    }
}
