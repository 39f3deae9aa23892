//! Where the files of a version are, in the store as in a folder. `lib.rs` draws it.

use std::fs;
use std::path::{Path, PathBuf};

use dpg_dataset::{Config, Split};

use crate::{Error, Result};

/// The file that is written last and names the others.
pub const MANIFEST: &str = "manifest.json";
/// The target spec.
pub(crate) const SPEC: &str = "spec.toml";
/// The signed statement of what the version was made from.
pub(crate) const PROVENANCE: &str = "provenance.dsse.json";
/// The folder of the trained generator, in a version that has it.
pub const GENERATOR: &str = "generator";

/// The files of a version in a local folder: one that is to be published, or that was fetched.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a>(pub &'a Path);

impl Local<'_> {
    /// The target spec.
    pub fn spec(self) -> PathBuf {
        self.0.join(SPEC)
    }

    /// The folder of the trained generator, which not every version has.
    pub fn generator(self) -> PathBuf {
        self.0.join(GENERATOR)
    }

    /// The shards of a table's split, in their order.
    pub fn shards(self, table: Config, split: Split) -> Result<Vec<PathBuf>> {
        let (folder, prefix) = (self.0.join(table.folder()), format!("{split}-"));
        let failed = |source| Error::of_file("read", &folder, source);
        let mut shards = vec![];
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                shards.push(entry.path());
            }
        }
        shards.sort();
        Ok(shards)
    }
}

/// The name of the snapshot that a job's attempt writes.
pub(crate) fn snapshot(job: &str, fence: u64) -> String {
    format!("{job}-{fence}")
}

/// The job that wrote a snapshot, by the snapshot's name.
pub(crate) fn job_of(snapshot: &str) -> &str {
    snapshot.rsplit_once('-').map_or(snapshot, |(job, _)| job)
}
