//! What commits hold is remembered: a version never changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dpg_registry::Registry;

use super::commit::{Commit, id};
use super::refusal::Refusal;

/// Commits that are remembered.
const REMEMBERED: usize = 256;

/// What commits hold, by dataset and id.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<(String, String), Arc<Commit>>>);

impl Remembered {
    fn get(&self, name: &str, id: &str) -> Option<Arc<Commit>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(name.to_owned(), id.to_owned())).cloned()
    }

    fn put(&self, commit: Arc<Commit>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((commit.version.dataset.clone(), id(&commit.version)), commit);
    }

    pub(super) fn forget(&self, commit: &Commit) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(commit.version.dataset.clone(), id(&commit.version)));
    }

    /// The commit that a revision names.
    pub(super) async fn find(
        &self,
        registry: &Registry,
        name: &str,
        revision: &str,
    ) -> Result<Arc<Commit>, Refusal> {
        if let Some(commit) = self.get(name, revision) {
            return Ok(commit);
        }
        let dataset = registry.dataset(name).await?;
        let version = match revision {
            "main" => dataset.resolve("latest")?,
            revision if revision.len() == 40 => {
                let named = dataset.versions.iter().find(|version| id(version) == revision);
                named.map_or_else(|| dataset.resolve(revision), Ok)?
            }
            revision => dataset.resolve(revision)?,
        };
        if let Some(commit) = self.get(name, &id(version)).filter(|known| known.version == *version) {
            return Ok(commit);
        }
        let files = registry.files(version).await?;
        let commit = Arc::new(Commit { version: version.clone(), files });
        self.put(Arc::clone(&commit));
        Ok(commit)
    }
}
