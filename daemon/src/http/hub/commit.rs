//! A version as a commit.

use dpg_registry::{ManifestFile, Version};

/// The one owner of all datasets.
pub(super) const NAMESPACE: &str = "dpg";

/// A version and its files.
pub(super) struct Commit {
    pub(super) version: Version,
    pub(super) files: Vec<ManifestFile>,
}

/// A version's commit id.
pub(super) fn id(version: &Version) -> String {
    version.manifest_sha256[..40].to_owned()
}
