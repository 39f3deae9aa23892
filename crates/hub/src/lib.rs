//! Where models and data come from: a location as a user writes it, to a verified path on disk.
//!
//! [`resolve`] takes `embedded:NAME`, a path, `hf:org/name@rev` or `s3://bucket/prefix`, downloads
//! what is not on this machine yet, checks sizes and hashes, and returns the file or folder. An
//! interrupted download goes on where it stopped. [`dataset`] brings files of a dataset of the Hugging Face Hub, and
//! [`push`] puts a folder there as one.
//!
//! Whoever calls it for `hf:` or `s3://` has installed a rustls crypto provider before.

mod cache;
mod download;
mod error;
mod hugging_face;
mod options;
mod push;
mod s3;
mod uri;

pub use error::Error;
pub use options::Options;
pub use push::{Push, Pushed, push};
pub use uri::Uri;

use std::path::{Path, PathBuf};

/// The verified file or folder that a location stands for.
///
/// # Errors
/// The location has nothing, or not what a model needs; a download is refused, corrupt or fails
/// after retries. [`Error::is_transient`] tells whether later may be better.
pub async fn resolve(uri: &Uri, options: &Options) -> Result<PathBuf, Error> {
    match uri {
        Uri::Embedded(name) => embedded(&options.embedded, name),
        Uri::Local(path) if path.exists() => Ok(path.clone()),
        Uri::Local(path) => Err(Error::NoSuchPath { path: path.clone() }),
        Uri::HuggingFace { repo, revision } => hugging_face::resolve(repo, revision, options).await,
        Uri::S3 { bucket, key } => s3::resolve(bucket, key, options).await,
    }
}

/// Files of a dataset of the Hugging Face Hub, by their paths in it, in the cache that Python shares; with the commit
/// that the revision stands for. They are in the folder that is returned.
///
/// # Errors
/// As [`resolve`]; [`Error::Status`] of 404 where the dataset has none of them.
pub async fn dataset(
    repo: &str,
    revision: &str,
    files: &[&str],
    options: &Options,
) -> Result<(PathBuf, String), Error> {
    hugging_face::dataset(repo, revision, files, options).await
}

fn embedded(root: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = root.join(name);
    if path.exists() {
        return Ok(path);
    }
    let entries = root.read_dir().map_err(Error::io(root))?;
    let mut known: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    known.sort();
    Err(Error::UnknownEmbedded { name: name.into(), known })
}

/// Whether a model folder's file is one that is used; other formats of the weights are not.
fn is_model_file(name: &str) -> bool {
    hugging_face::SMALL_FILES.contains(&name) || name == hugging_face::INDEX || name.ends_with(".safetensors")
}
