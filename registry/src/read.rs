//! The files of a version one by one and in parts, for whoever serves them.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt};

use crate::layout::MANIFEST;
use crate::snapshot::within;
use crate::{Error, ManifestFile, Registry, Result, Version};

impl Registry {
    /// All files of a version, sorted by path, the manifest among them.
    pub async fn files(&self, version: &Version) -> Result<Vec<ManifestFile>> {
        let (manifest, json) = self.read_manifest(version).await?;
        let mut files = manifest.files;
        let sha256 = version.manifest_sha256.clone();
        files.push(ManifestFile { path: MANIFEST.into(), size: json.len() as u64, sha256 });
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }

    /// Where the store has a file of a version, for whoever serves or signs it.
    pub fn object(&self, version: &Version, file: &ManifestFile) -> Path {
        within(&self.version_path(version), &file.path)
    }

    /// The bytes `range` of a file of a version as they arrive. Hashes are not checked; that the
    /// file in the store has the size it was published with is.
    pub async fn read_range(
        &self,
        version: &Version,
        file: &ManifestFile,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let path = self.object(version, file);
        let part = (range != (0..file.size)).then_some(GetRange::Bounded(range));
        let options = GetOptions { range: part, ..GetOptions::default() };
        let found =
            self.store.get_opts(&path, options).await.map_err(|source| self.failed("read", &path, source))?;
        if found.meta.size != file.size {
            let damage = format!("`{}` has {} bytes, expected {}", file.path, found.meta.size, file.size);
            return Err(Error::Damaged { version: version.to_string(), damages: vec![damage] });
        }
        Ok(found.into_stream())
    }

    /// A file of a version as a whole, by its path.
    pub(crate) async fn read_file(&self, version: &Version, file: &str) -> Result<Bytes> {
        let path = within(&self.version_path(version), file);
        let failed = |source| self.failed("read", &path, source);
        self.store.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)
    }
}
