//! Files and folders that nobody else on the machine may read, whatever the umask says.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing::warn;
use uuid::Uuid;

/// Secrets and databases in a data folder.
const FILES: [&str; 6] =
    ["admin.token", "daemon.secret", "queue.db", "queue.db-shm", "queue.db-wal", "signing-key.pem"];

/// Makes a folder that is its owner's alone, with its parents as the umask has them. One that is there
/// already is closed to others, with the secrets in it.
pub(crate) fn private_folder(folder: &Path) -> anyhow::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create the folder `{}`", parent.display()))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot create the folder `{}`", folder.display()));
        }
    }
    for path in open_to_others(folder) {
        close(&path, if path == folder { 0o700 } else { 0o600 });
    }
    Ok(())
}

/// What other users may read of a data folder: itself, and the secrets and databases in it. A link is
/// left out: what it leads to is not the folder's.
pub(crate) fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let is_open = |path: &PathBuf| {
        let found = fs::symlink_metadata(path);
        found.is_ok_and(|found| !found.is_symlink() && found.permissions().mode() & 0o077 != 0)
    };
    let files = FILES.iter().map(|file| folder.join(file));
    std::iter::once(folder.to_path_buf()).chain(files).filter(is_open).collect()
}

/// Takes from others what they may do with a file or folder, and says so.
fn close(path: &Path, mode: u32) {
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        Ok(()) => warn!("closed `{}` to other users: its mode is {mode:o} now", path.display()),
        // on a volume that belongs to another user
        Err(error) => warn!("other users may read `{}`, and it cannot be closed: {error}", path.display()),
    }
}

/// Writes a file that is its owner's alone unless there is one; whether it did. Nobody sees half of it.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    let draft = path.with_extension(format!("{}.partial", Uuid::new_v4()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    };
    let written = write();
    let _ = fs::remove_file(&draft);
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot write `{}`", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_and_what_was_open_is_the_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("parent/data");
        private_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        let file = folder.join("admin.token");
        assert!(create_private(&file, b"one").unwrap());
        assert!(!create_private(&file, b"two").unwrap());
        assert_eq!((fs::read(&file).unwrap(), mode(&file)), (b"one".to_vec(), 0o600));
        // as an earlier program left them
        let elsewhere = place.path().join("elsewhere");
        fs::write(&elsewhere, "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join("queue.db-wal")).unwrap();
        for (path, open) in [(&folder, 0o755), (&file, 0o644), (&elsewhere, 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(open)).unwrap();
        }
        private_folder(&folder).unwrap();
        assert_eq!((mode(&folder), mode(&file), mode(&elsewhere)), (0o700, 0o600, 0o644));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no drafts are left");
    }
}
