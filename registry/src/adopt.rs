//! A version that another registry published, from a local copy of its files. It stays the snapshot of its job: its
//! manifest, its hashes and its signature are those that it came with.

use std::fs::{self, File};
use std::path::Path;

use dpg_dataset::{Config, Split};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use sha2::{Digest, Sha256};

use crate::layout::{MANIFEST, PROVENANCE};
use crate::log::Op;
use crate::provenance::check;
use crate::snapshot::{check_names, within};
use crate::{Error, Manifest, Registry, Result, Version};

impl Registry {
    /// Publishes the version in `folder`, whose signer is believed, as the next one of its dataset, or returns the
    /// version that it was published as before.
    ///
    /// Errors as [`Registry::publish`] does, when no trusted key signed it, when a file is not what its manifest says,
    /// and when its job has published other files here.
    pub async fn adopt(&self, folder: &Path) -> Result<Version> {
        let json = read(&folder.join(MANIFEST))?;
        let damaged =
            |damage| Error::Damaged { version: folder.display().to_string(), damages: vec![damage] };
        let manifest = Manifest::parse(&json).map_err(|reason| damaged(format!("`{MANIFEST}`: {reason}")))?;
        let Manifest { dataset: name, job, fence, .. } = &manifest;
        check_names(name, job)?;
        let envelope = read(&folder.join(PROVENANCE))?;
        let believed = self.believe(&envelope).and_then(|(statement, _)| check(&statement, &manifest));
        believed.map_err(|reason| Error::BadSignature { version: name.clone(), reason })?;
        let manifest_sha256 = hex::encode(Sha256::digest(&json));
        let same = |version: Version| {
            if version.manifest_sha256 == manifest_sha256 {
                return Ok(version);
            }
            Err(Error::OtherFiles { job: job.clone(), version: version.to_string() })
        };
        if let Some(version) = self.read_log(name).await?.of_job(job) {
            return same(version.clone());
        }

        let root = self.snapshot_path(name, job, *fence);
        for file in &manifest.files {
            self.put_file(&within(&root, &file.path), &folder.join(&file.path), &file.sha256).await?;
        }
        let train = format!("{}/{}-", Config::Default.folder(), Split::Train);
        let (mut rows, mut size) = (0, 0);
        for file in manifest.files.iter().filter(|file| file.path.ends_with(".parquet")) {
            size += file.size;
            if file.path.starts_with(&train) {
                let counted = count(&folder.join(&file.path));
                rows += counted.map_err(|error| damaged(format!("`{}`: {error}", file.path)))?;
            }
        }
        if rows == 0 {
            return Err(Error::Empty(name.clone()));
        }
        self.put_small(&root, MANIFEST, json.into()).await?;
        let publish = |version| Op::Publish {
            version,
            job: job.clone(),
            fence: *fence,
            manifest_sha256: manifest_sha256.clone(),
            rows,
            size,
            withheld: None,
            failed: false,
        };
        same(self.commit(name, job, publish).await?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::of_file("read", path, source))
}

/// The rows of a Parquet file, by its footer.
fn count(path: &Path) -> std::result::Result<u64, ParquetError> {
    let footer = SerializedFileReader::new(File::open(path)?)?;
    Ok(footer.metadata().file_metadata().num_rows() as u64)
}
