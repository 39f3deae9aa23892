//! Rows that were listed last are remembered: a version never changes.

use std::sync::{Arc, Mutex, PoisonError};

use dpg_dataset::Split;
use dpg_registry::{Error, Registry, Rows, Version};

/// Splits whose rows are remembered.
const MOST: usize = 4;

/// A split, by the hash of its version's manifest.
type Key = (String, Split);

/// Rows that were listed last, the newest last.
#[derive(Default)]
pub(crate) struct Known(Mutex<Vec<(Key, Arc<Rows>)>>);

impl Known {
    /// The rows of a split of a version.
    pub(crate) async fn find(
        &self,
        registry: &Registry,
        version: &Version,
        split: Split,
    ) -> Result<Arc<Rows>, Error> {
        let key = (version.manifest_sha256.clone(), split);
        if let Some(rows) = self.get(&key) {
            return Ok(rows);
        }
        let rows = Arc::new(registry.rows(version, split).await?);
        self.put(key, Arc::clone(&rows));
        Ok(rows)
    }

    fn get(&self, key: &Key) -> Option<Arc<Rows>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(other, _)| other == key).map(|(_, rows)| Arc::clone(rows))
    }

    fn put(&self, key: Key, rows: Arc<Rows>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| *other != key);
        if known.len() >= MOST {
            known.remove(0);
        }
        known.push((key, rows));
    }
}
