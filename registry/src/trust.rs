//! Whose signatures are believed: the registry's own key and those it was told to trust. A store may be
//! written by others, so a record counts for nothing before its signature was checked here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;

use crate::dsse::{open, read_public_key};
use crate::{Registry, Result};

/// What the registry's own key is called.
pub const OWN_KEY: &str = "own key";

/// Verdicts that are remembered: records never change, and keys only with the program.
const REMEMBERED: usize = 4096;

/// Public keys with the names they are shown under.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    keys: Vec<(String, VerifyingKey)>,
    /// Who signed a record that holds, or why it does not, by its SHA-256, manifest and result.
    pub(crate) known: Arc<Mutex<HashMap<String, std::result::Result<String, String>>>>,
}

impl Trust {
    /// Remembers what became of a record.
    pub(crate) fn remember(&self, record: String, verdict: std::result::Result<String, String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(record, verdict);
    }

    /// What became of a record, if it is remembered.
    pub(crate) fn recall(&self, record: &str) -> Option<std::result::Result<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(record).cloned()
    }
}

impl Registry {
    /// Believes the owners of these keys besides its own: a name, and a public key in PEM or its one
    /// line of base64.
    pub fn trusting<'a>(mut self, keys: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<Self> {
        let read = |(name, key): (&String, &String)| Ok((name.clone(), read_public_key(key)?));
        self.trust = Trust { keys: keys.into_iter().map(read).collect::<Result<_>>()?, ..Trust::default() };
        Ok(self)
    }

    /// The statement in an envelope and the name of the trusted key that signed it; or why nobody
    /// should believe it.
    pub(crate) fn believe(&self, envelope: &[u8]) -> std::result::Result<(Vec<u8>, String), String> {
        let mut names: Vec<_> = self.trust.keys.iter().map(|(name, _)| name.as_str()).collect();
        let mut keys: Vec<_> = self.trust.keys.iter().map(|(_, key)| *key).collect();
        // a machine that has signed nothing has no key, and reading must not make one
        if let Ok(pem) = std::fs::read_to_string(&self.key_file)
            && let Ok(own) = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem)
        {
            names.push(OWN_KEY);
            keys.push(own.verifying_key());
        }
        let (statement, signer) = open(&keys, envelope)?;
        Ok((statement, names[signer].to_owned()))
    }
}

/// Refuses what is not a public key.
pub fn check_public_key(text: &str) -> Result<()> {
    read_public_key(text).map(drop)
}
