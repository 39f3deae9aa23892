//! How a daemon proves that it serves a data folder before a client sends it that folder's token.
//!
//! Both can read the folder's `daemon.secret`. The client sends a number that it used never before; the
//! daemon answers the HMAC-SHA256 of it, of its own address and of its port. Whoever took the port of a
//! daemon that was killed cannot answer, and what it gets by asking another daemon names another
//! address.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::{IntoParams, ToSchema};

/// What keeps these HMACs apart from any others.
const PURPOSE: &str = "dpg daemon proof 1";

/// What a client asks with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// 64 hex digits that were never used before.
    pub nonce: String,
}

/// What a daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// The address under which its clients reach it.
    pub url: String,
    /// The port that it listens on.
    pub port: u16,
    /// HMAC-SHA256 in hex.
    pub proof: String,
}

/// The secret that a data folder's daemon and its readers share. It has no `Debug`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text in the folder's `daemon.secret`.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// A daemon's answer, or `None` if the nonce is none.
    pub fn answer(&self, challenge: &Challenge, url: &str, port: u16) -> Option<Proof> {
        let nonce = &challenge.nonce;
        let is_nonce = nonce.len() == 64 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        let proof = hex::encode(self.hmac(nonce, url, port).finalize().into_bytes());
        is_nonce.then(|| Proof { url: url.to_owned(), port, proof })
    }

    /// Whether the daemon that a client reaches at `url` gave this answer.
    pub(crate) fn accepts(&self, challenge: &Challenge, url: &reqwest::Url, answer: &Proof) -> bool {
        let is_named = reqwest::Url::parse(&answer.url).is_ok_and(|named| named == *url);
        // of the several ways to name this machine the port alone counts
        let is_local = is_loopback(url) && url.port_or_known_default() == Some(answer.port);
        let Ok(proof) = hex::decode(&answer.proof) else { return false };
        let expected = self.hmac(&challenge.nonce, &answer.url, answer.port);
        (is_named || is_local) && expected.verify_slice(&proof).is_ok()
    }

    fn hmac(&self, nonce: &str, url: &str, port: u16) -> Hmac<Sha256> {
        let mut hmac =
            Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        hmac.update(format!("{PURPOSE}\n{nonce}\n{port}\n{url}").as_bytes());
        hmac
    }
}

/// Whether an address leads to this machine.
pub fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::{Challenge, Proof, Secret, is_loopback};

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn an_answer_is_good_for_one_nonce_one_secret_and_one_address() {
        let (secret, other) = (Secret::new("one\n"), Secret::new("two"));
        let asked = Challenge { nonce: "ab".repeat(32) };
        let answer = secret.answer(&asked, "http://127.0.0.1:7117", 7117).unwrap();
        for reached in ["http://127.0.0.1:7117", "http://localhost:7117/", "http://[::1]:7117"] {
            assert!(secret.accepts(&asked, &url(reached), &answer), "{reached}");
        }
        // got from the daemon at 7117 by whoever listens elsewhere
        for reached in ["http://127.0.0.1:7118", "http://example.com:7117", "https://127.0.0.1"] {
            assert!(!secret.accepts(&asked, &url(reached), &answer), "{reached}");
        }
        assert!(!secret.accepts(
            &Challenge { nonce: "cd".repeat(32) },
            &url("http://127.0.0.1:7117"),
            &answer
        ));
        assert!(!other.accepts(&asked, &url("http://127.0.0.1:7117"), &answer));
        for changed in [
            Proof { port: 7118, ..answer.clone() },
            Proof { url: "http://127.0.0.1:7118".into(), ..answer.clone() },
            Proof { proof: String::new(), ..answer.clone() },
        ] {
            let reached = if changed.port == 7118 { "http://127.0.0.1:7118" } else { &changed.url };
            assert!(!secret.accepts(&asked, &url(reached), &changed), "{changed:?}");
        }
        let public = secret.answer(&asked, "https://dpg.example.com", 7117).unwrap();
        assert!(secret.accepts(&asked, &url("https://dpg.example.com/"), &public));
        for nonce in ["", "ab", &"xy".repeat(32)] {
            assert!(
                secret.answer(&Challenge { nonce: nonce.into() }, "http://127.0.0.1:7117", 7117).is_none()
            );
        }
    }

    #[test]
    fn this_machine_has_few_names() {
        for local in ["http://127.0.0.1:7117", "http://localhost", "https://[::1]:1/x", "http://127.9.9.9"] {
            assert!(is_loopback(&url(local)), "{local}");
        }
        for other in ["http://10.0.0.1", "http://127.0.0.1.example.org", "http://localhost@example.org"] {
            assert!(!is_loopback(&url(other)), "{other}");
        }
    }
}
