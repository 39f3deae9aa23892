//! Removal of what publishers that died left behind, and of retired versions.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Serialize;

use crate::layout::{self, MANIFEST};
use crate::snapshot::within;
use crate::{Registry, Result};

/// A snapshot that may be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Its name, `{job}-{fence}`.
    pub snapshot: String,
    /// The version it was, if it is retired.
    pub version: Option<u64>,
    /// Bytes of its files.
    pub bytes: u64,
    /// When its newest file was written, or it was retired.
    pub since: DateTime<Utc>,
    #[serde(skip)]
    paths: Vec<Path>,
}

impl Registry {
    /// The snapshots of a dataset that no version refers to, or a retired one, that have been so
    /// for `age`, and whose job `is_live` disowns.
    ///
    /// A publisher whose job is live is never disturbed; so `is_live` must say true of every job
    /// that may still publish.
    pub async fn garbage(
        &self,
        name: &str,
        age: TimeDelta,
        is_live: impl Fn(&str) -> bool,
    ) -> Result<Vec<Garbage>> {
        let folder = self.path(&[name, "snapshots"]);
        let depth = folder.parts().count();
        let objects: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|source| self.failed("list", &folder, source))?;
        let mut snapshots = BTreeMap::<String, Garbage>::new();
        for object in objects {
            let Some(snapshot) = object.location.parts().nth(depth) else { continue };
            let snapshot = snapshot.as_ref().to_owned();
            let since = object.last_modified;
            let garbage = snapshots.entry(snapshot.clone()).or_insert(Garbage {
                snapshot,
                version: None,
                bytes: 0,
                since,
                paths: Vec::new(),
            });
            garbage.since = since.max(garbage.since);
            garbage.bytes += object.size;
            garbage.paths.push(object.location);
        }

        // The log is read after the listing: a snapshot that was committed in between is in it.
        for version in self.read_log(name).await?.versions {
            let snapshot = layout::snapshot(&version.job, version.fence);
            match version.retired {
                None => drop(snapshots.remove(&snapshot)),
                Some(at) => {
                    if let Some(garbage) = snapshots.get_mut(&snapshot) {
                        garbage.version = Some(version.number);
                        garbage.since = at.max(garbage.since);
                    }
                }
            }
        }
        let oldest_kept = Utc::now() - age;
        snapshots
            .retain(|snapshot, garbage| garbage.since < oldest_kept && !is_live(layout::job_of(snapshot)));
        for (snapshot, garbage) in &mut snapshots {
            // The manifest goes first: a snapshot that has one has all its files.
            let manifest = within(&folder, &format!("{snapshot}/{MANIFEST}"));
            garbage.paths.sort_by_key(|path| *path != manifest);
        }
        Ok(snapshots.into_values().collect())
    }

    /// Removes what [`Registry::garbage`] finds, and says what it was.
    pub async fn gc(
        &self,
        name: &str,
        age: TimeDelta,
        is_live: impl Fn(&str) -> bool,
    ) -> Result<Vec<Garbage>> {
        let garbage = self.garbage(name, age, is_live).await?;
        for path in garbage.iter().flat_map(|garbage| &garbage.paths) {
            self.store.delete(path).await.map_err(|source| self.failed("delete", path, source))?;
        }
        Ok(garbage)
    }
}
