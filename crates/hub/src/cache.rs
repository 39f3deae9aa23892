//! The Hugging Face cache on disk, laid out as the Python library does:
//! `models--org--name/{refs/REVISION, blobs/ETAG, snapshots/COMMIT/FILE -> ../../blobs/ETAG}` and
//! `.no_exist/COMMIT/FILE` for files that a commit is known not to have; of datasets `datasets--org--name`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Error;

/// One repository's folder in the cache.
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(crate) fn new(root: &Path, repo: &str) -> Self {
        Self { folder: root.join(format!("models--{}", repo.replace('/', "--"))) }
    }

    pub(crate) fn of_dataset(root: &Path, repo: &str) -> Self {
        Self { folder: root.join(format!("datasets--{}", repo.replace('/', "--"))) }
    }

    /// The commit that a revision stands for, as far as known here.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(crate) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        create_parent(&path)?;
        let partial = path.with_added_extension("incomplete");
        fs::write(&partial, commit).map_err(Error::io(&partial))?;
        fs::rename(&partial, &path).map_err(Error::io(&path))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether a commit has a file: `None` if that is not known here.
    pub(crate) fn has(&self, commit: &str, file: &str) -> Option<bool> {
        if self.snapshot(commit).join(file).exists() {
            return Some(true);
        }
        self.absence(commit, file).exists().then_some(false)
    }

    pub(crate) fn set_absent(&self, commit: &str, file: &str) -> Result<(), Error> {
        let path = self.absence(commit, file);
        create_parent(&path)?;
        fs::write(&path, "").map_err(Error::io(&path))
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(file)
    }

    /// Where the content with this ETag belongs; its folder exists.
    pub(crate) fn blob(&self, etag: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join("blobs").join(etag);
        create_parent(&path)?;
        Ok(path)
    }

    /// Makes a file of a commit be the content with this ETag.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), Error> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        if path.is_symlink() && !path.exists() {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        let up = "../".repeat(2 + file.matches('/').count());
        match symlink(format!("{up}blobs/{etag}"), &path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::io(&path)(error)),
            _ => Ok(()),
        }
    }
}

pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn create_parent(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(Error::io(folder))
}
