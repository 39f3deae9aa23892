//! A data folder knows whether it is itself, a copy, or restored from a backup: `folder.json` says which
//! folder it was.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::settings::data_dir::DataDir;

const FILE: &str = "folder.json";

/// What a data folder knows of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    id: Uuid,
    path: PathBuf,
    inode: u64,
}

impl Identity {
    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(folder.join(FILE)).ok()?).ok()
    }
}

/// Whether a folder is what it was, and what there is to say if not. `adopt` makes a copy a folder of
/// its own.
pub(crate) fn check(data: &DataDir, adopt: bool) -> Option<String> {
    let (path, file) = (data.root().to_owned(), data.path(FILE));
    let inode = fs::metadata(&path).ok()?.ino();
    let known = Identity::read(&path);
    let (id, text) = match known {
        Some(known) if known.inode == inode && known.path == path => return None,
        Some(known) if known.inode == inode => (known.id, None),
        None => (Uuid::new_v4(), None),
        Some(known) => {
            let original = Identity::read(&known.path);
            let stands = original.is_some_and(|original| {
                original.id == known.id
                    && fs::metadata(&known.path).is_ok_and(|found| found.ino() == original.inode)
            });
            let (here, there) = (path.display(), known.path.display());
            if stands && !adopt {
                return Some(format!(
                    "`{here}` is a copy of `{there}`: its jobs and schedules are copies too and might be worked on \
                     twice, and the daemon of `{there}` knows nothing of them; remove `{}` if it is to be a folder \
                     of its own",
                    file.display()
                ));
            }
            let text = if stands {
                format!(
                    "`{here}` was a copy of `{there}` and is a folder of its own now; its jobs and schedules are \
                     worked on here as well"
                )
            } else {
                format!("`{here}` was moved or restored from `{there}`; its queue is as it was then")
            };
            (Uuid::new_v4(), Some(text))
        }
    };
    let text_of = serde_json::to_string_pretty(&Identity { id, path, inode }).ok()?;
    // a folder that cannot be written to is told of by whoever has to write
    match fs::write(&file, text_of) {
        Err(error) if error.kind() != ErrorKind::NotFound => None,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> DataDir {
        DataDir::open(Some(folder.into())).unwrap()
    }

    #[test]
    fn a_copy_is_told_from_a_folder_that_was_moved() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().canonicalize().unwrap().join(name);
        let original = open(&path("original"));
        assert_eq!(check(&original, false), None);
        assert_eq!(check(&original, false), None);
        let copied = open(&path("copy"));
        fs::copy(original.path(FILE), copied.path(FILE)).unwrap();
        for _ in 0..2 {
            assert!(check(&copied, false).unwrap().contains("is a copy of"));
        }
        assert!(check(&copied, true).unwrap().contains("of its own now"));
        assert_eq!(check(&copied, false), None);
        assert_eq!(check(&original, false), None);
        // a rename changes nothing
        fs::rename(path("original"), path("moved")).unwrap();
        let moved = open(&path("moved"));
        assert_eq!(check(&moved, false), None);
        // a backup that is put back where the original was lost
        let backup = fs::read(moved.path(FILE)).unwrap();
        fs::rename(path("moved"), path("lost")).unwrap();
        let restored = open(&path("moved"));
        fs::write(restored.path(FILE), backup).unwrap();
        assert!(check(&restored, false).unwrap().contains("restored"));
        assert_eq!(check(&restored, false), None, "it is said once");
    }
}
