//! Removal of what publishers that died left behind.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::snapshot::{MANIFEST, within};
use crate::{Registry, Result};

impl Registry {
    /// Removes the snapshots of a dataset that no version refers to, whose newest file is older
    /// than `age`, and whose job `is_live` disowns. Returns their names, `{job}-{fence}`.
    ///
    /// A publisher whose job is live is never disturbed; so `is_live` must say true of every job
    /// that may still publish.
    pub async fn gc(
        &self,
        name: &str,
        age: TimeDelta,
        is_live: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let folder = self.path(&[name, "snapshots"]);
        let depth = folder.parts().count();
        let objects: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|source| self.failed("list", &folder, source))?;
        let mut snapshots = BTreeMap::<String, (DateTime<Utc>, Vec<Path>)>::new();
        for object in objects {
            let Some(snapshot) = object.location.parts().nth(depth) else { continue };
            let (newest, paths) =
                snapshots.entry(snapshot.as_ref().into()).or_insert((object.last_modified, Vec::new()));
            *newest = object.last_modified.max(*newest);
            paths.push(object.location);
        }

        // The log is read after the listing: a snapshot that was committed in between is in it.
        let versions = self.read_log(name).await?.versions;
        let referenced: BTreeSet<_> =
            versions.iter().map(|version| format!("{}-{}", version.job, version.fence)).collect();
        let oldest_kept = Utc::now() - age;
        snapshots.retain(|snapshot, (newest, _)| {
            let job = snapshot.rsplit_once('-').map_or(snapshot.as_str(), |(job, _)| job);
            !referenced.contains(snapshot) && *newest < oldest_kept && !is_live(job)
        });

        for (snapshot, (_, paths)) in &mut snapshots {
            // The manifest goes first: a snapshot that has one has all its files.
            let manifest = within(&folder, &format!("{snapshot}/{MANIFEST}"));
            paths.sort_by_key(|path| *path != manifest);
            for path in paths.iter() {
                self.store.delete(path).await.map_err(|source| self.failed("delete", path, source))?;
            }
        }
        Ok(snapshots.into_keys().collect())
    }
}
