//! A data folder has one truth: who works in it, with which store and queue, and whether it is itself.
//!
//! `daemon.lock` is locked by the folder's daemon for as long as that runs, and says who it is. So a
//! second one is refused; what a dead one left behind is known for what it is; and a copy of the folder
//! has no daemon, whatever its files say. `folder.json` tells a copy from the original.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::config::masked;
use crate::services::settings;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::terminal::console::note;

const LOCK: &str = "daemon.lock";
const FOLDER: &str = "folder.json";
/// The daemon's address alone, for scripts.
pub(crate) const ADDRESS: &str = "daemon.url";

/// What a daemon says of itself in its data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    /// Where it answers, once it does.
    pub(crate) url: Option<String>,
    /// Where it publishes.
    pub(crate) store: String,
    /// Its queue, without a password.
    pub(crate) database: String,
    pub(crate) started: DateTime<Utc>,
}

/// The daemon of a data folder.
#[derive(Debug)]
pub(crate) enum Resident {
    /// None runs, and none left anything.
    None,
    /// It runs. Without a record it has only begun to.
    Running(Option<Record>),
    /// None runs; this is what one left, or what was copied with the folder: an address.
    Gone(String),
}

/// A data folder that is this daemon's until it is dropped.
pub(crate) struct Occupied {
    lock: File,
    record: Record,
}

impl Occupied {
    /// Takes a data folder for a daemon of these settings; an error if it has one.
    pub(crate) fn take(data: &DataDir, config: &Config) -> anyhow::Result<Self> {
        let path = data.path(LOCK);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
        // others hold it for a moment when they look
        for tries in 0.. {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < 20 => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => bail!(occupied(data, read(&path).as_ref())),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock `{}`", path.display()));
                }
            }
        }
        let record = Record {
            pid: std::process::id(),
            url: None,
            store: store_of(data, &config.store),
            database: database_of(data, &config.database),
            started: Utc::now(),
        };
        let mut occupied = Self { lock, record };
        occupied.write()?;
        Ok(occupied)
    }

    /// Says where the daemon answers.
    pub(crate) fn answers_at(&mut self, url: &str) -> anyhow::Result<()> {
        self.record.url = Some(url.into());
        self.write()
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.record)?;
        let written = self.lock.set_len(0).and_then(|()| {
            self.lock.rewind()?;
            self.lock.write_all(text.as_bytes())
        });
        written.context("cannot write to the data folder's `daemon.lock`")
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        // an empty file says that its daemon has ended in order
        let _ = self.lock.set_len(0);
    }
}

fn occupied(data: &DataDir, record: Option<&Record>) -> String {
    let folder = data.root();
    let who = record.map_or_else(String::new, |record| {
        let at = record.url.as_ref().map_or_else(String::new, |url| format!(" at `{url}`"));
        format!(" (pid {}{at}, since {})", record.pid, record.started.format("%Y-%m-%d %H:%M UTC"))
    });
    format!(
        "`{}` has a daemon already{who}; stop that one, or give this one a folder of its own with --data-dir: \
         daemons share a queue and a store by `database` and `store` in their settings",
        folder.display()
    )
}

fn read(path: &Path) -> Option<Record> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

impl Resident {
    /// Who works in a data folder now.
    pub(crate) fn of(data: &DataDir) -> Self {
        let path = data.path(LOCK);
        let lock = File::open(&path);
        let free = lock.as_ref().map_or(true, |lock| lock.try_lock_shared().is_ok());
        if !free {
            return Self::Running(read(&path));
        }
        let left = fs::read_to_string(data.path(ADDRESS)).ok().map(|url| url.trim().to_owned());
        match left.or_else(|| read(&path)?.url) {
            Some(url) => Self::Gone(url),
            None => Self::None,
        }
    }

    /// The record of one that runs.
    pub(crate) fn record(self) -> Option<Record> {
        match self {
            Self::Running(record) => record,
            Self::None | Self::Gone(_) => None,
        }
    }
}

/// Says what a user of a data folder has to know before anything else: that it is a copy, or that its
/// daemon is gone. What a dead daemon left is put away, so it is said once.
pub(crate) fn introduce(data: &DataDir, starting: bool) {
    if let Some(text) = Identity::check(data, starting) {
        note(format_args!("note: {text}"));
    }
    if let Resident::Gone(url) = Resident::of(data) {
        note(format_args!(
            "note: `{}` names a daemon at `{url}` that does not run in this folder any more; nothing is sent there",
            data.path(ADDRESS).display()
        ));
        let _ = fs::remove_file(data.path(ADDRESS));
        // held for this moment: a daemon that starts now waits for it
        if let Ok(lock) = File::options().write(true).open(data.path(LOCK))
            && lock.try_lock_shared().is_ok()
        {
            let _ = lock.set_len(0);
        }
    }
}

/// What a data folder knows of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    id: Uuid,
    path: PathBuf,
    inode: u64,
}

impl Identity {
    /// Whether a folder is what it was, and what there is to say if not. `adopt` makes a copy a folder of
    /// its own.
    fn check(data: &DataDir, adopt: bool) -> Option<String> {
        let (path, file) = (data.root().to_owned(), data.path(FOLDER));
        let inode = fs::metadata(&path).ok()?.ino();
        let known = Self::read(&path);
        let (id, text) = match known {
            Some(known) if known.inode == inode && known.path == path => return None,
            Some(known) if known.inode == inode => (known.id, None),
            None => (Uuid::new_v4(), None),
            Some(known) => {
                let original = Self::read(&known.path);
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
        let text_of = serde_json::to_string_pretty(&Self { id, path, inode }).ok()?;
        // a folder that cannot be written to is told of by whoever has to write
        match fs::write(&file, text_of) {
            Err(error) if error.kind() != ErrorKind::NotFound => None,
            _ => text,
        }
    }

    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(folder.join(FOLDER)).ok()?).ok()
    }
}

/// The store of a command: the one that is `given`, else the one that the folder's daemon publishes to,
/// else that of the settings. Says so where they differ.
pub(crate) fn store(data: &DataDir, given: Option<&str>) -> anyhow::Result<String> {
    let running = Resident::of(data).record().map(|record| record.store);
    let own = match given {
        Some(given) => given.to_owned(),
        None => settings(data)?.store,
    };
    let own = store_of(data, &own);
    match running {
        Some(running) if running != own && given.is_some() => {
            note(format_args!(
                "note: the daemon of this data folder publishes to `{running}`, not to `{own}`"
            ));
            Ok(own)
        }
        Some(running) if running != own => {
            note(format_args!(
                "note: the daemon of this data folder publishes to `{running}`, and this reads and writes there; the \
                 settings say `{own}`"
            ));
            Ok(running)
        }
        _ => Ok(own),
    }
}

/// Refuses to go on with another queue than the daemon's.
pub(crate) fn check_database(data: &DataDir, database: &str) -> anyhow::Result<()> {
    let own = database_of(data, database);
    match Resident::of(data).record() {
        Some(record) if record.database != own => bail!(
            "the queue of this data folder's daemon is `{}`, not `{own}`; name it in DPG_DATABASE or in the settings, \
             for its jobs may still publish",
            record.database
        ),
        _ => Ok(()),
    }
}

/// In what a running daemon's store and queue differ from those of settings.
pub(crate) fn differs(data: &DataDir, config: &Config, store: &str, database: &str) -> Option<String> {
    let (own_store, own_database) = (store_of(data, &config.store), database_of(data, &config.database));
    if own_store != store {
        return Some(format!("its store is `{store}`, not `{own_store}`"));
    }
    (own_database != database).then(|| format!("its queue is `{database}`, not `{own_database}`"))
}

/// A store's full address; a folder in the data folder if none is named.
fn store_of(data: &DataDir, store: &str) -> String {
    if store.contains("://") || store == "memory:" {
        let trimmed = store.trim_end_matches('/');
        // what names no bucket is left for whoever opens it to refuse
        return if trimmed.ends_with(':') { store } else { trimmed }.to_owned();
    }
    let path = if store.is_empty() { data.path("registry") } else { PathBuf::from(store) };
    full(&path).to_string_lossy().into_owned()
}

/// A queue's full address without its password; a file in the data folder if none is named.
fn database_of(data: &DataDir, database: &str) -> String {
    match database.strip_prefix("sqlite:") {
        Some(path) => format!("sqlite:{}", full(Path::new(path)).display()),
        None if database.is_empty() => format!("sqlite:{}", full(&data.queue_file()).display()),
        None => masked(database),
    }
}

/// A path without links, as far as it is there.
fn full(path: &Path) -> PathBuf {
    let parent = || {
        let (folder, name) = (path.parent()?, path.file_name()?);
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Some(folder.canonicalize().ok()?.join(name))
    };
    path.canonicalize().ok().or_else(parent).or_else(|| std::path::absolute(path).ok()).unwrap_or(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> DataDir {
        DataDir::open(Some(folder.into())).unwrap()
    }

    #[test]
    fn a_folder_has_one_daemon_and_knows_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let data = open(folder.path());
        assert!(matches!(Resident::of(&data), Resident::None));
        let mut first = Occupied::take(&data, &Config::default()).unwrap();
        assert_eq!(Resident::of(&data).record().unwrap().url, None);
        first.answers_at("http://127.0.0.1:1").unwrap();
        let record = Resident::of(&data).record().unwrap();
        assert_eq!((record.pid, record.url.as_deref()), (std::process::id(), Some("http://127.0.0.1:1")));
        assert!(record.store.ends_with("/registry") && record.database.ends_with("/queue.db"), "{record:?}");
        let second = Occupied::take(&data, &Config::default()).err().unwrap().to_string();
        let pid = format!("pid {}", std::process::id());
        for part in [pid.as_str(), "http://127.0.0.1:1", "--data-dir"] {
            assert!(second.contains(part), "`{part}` is not in: {second}");
        }
        // killed: the lock goes, the record stays
        let left = fs::read(data.path(LOCK)).unwrap();
        drop(first);
        assert!(matches!(Resident::of(&data), Resident::None));
        fs::write(data.path(LOCK), left).unwrap();
        assert!(matches!(Resident::of(&data), Resident::Gone(url) if url == "http://127.0.0.1:1"));
        introduce(&data, false);
        assert!(matches!(Resident::of(&data), Resident::None), "it is said once");
        drop(Occupied::take(&data, &Config::default()).unwrap());
    }

    #[test]
    fn a_copy_is_told_from_a_folder_that_was_moved() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().canonicalize().unwrap().join(name);
        let original = open(&path("original"));
        assert_eq!(Identity::check(&original, false), None);
        assert_eq!(Identity::check(&original, false), None);
        let copied = open(&path("copy"));
        fs::copy(original.path(FOLDER), copied.path(FOLDER)).unwrap();
        for _ in 0..2 {
            assert!(Identity::check(&copied, false).unwrap().contains("is a copy of"));
        }
        assert!(Identity::check(&copied, true).unwrap().contains("of its own now"));
        assert_eq!(Identity::check(&copied, false), None);
        assert_eq!(Identity::check(&original, false), None);
        // a rename is no news
        fs::rename(path("original"), path("moved")).unwrap();
        let moved = open(&path("moved"));
        assert_eq!(Identity::check(&moved, false), None);
        // a backup that is put back where the original was lost
        let backup = fs::read(moved.path(FOLDER)).unwrap();
        fs::rename(path("moved"), path("lost")).unwrap();
        let restored = open(&path("moved"));
        fs::write(restored.path(FOLDER), backup).unwrap();
        assert!(Identity::check(&restored, false).unwrap().contains("restored"));
        assert_eq!(Identity::check(&restored, false), None, "it is said once");
    }

    #[test]
    fn addresses_of_one_place_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let data = open(folder.path());
        let registry = data.registry_dir().unwrap();
        assert_eq!(store_of(&data, ""), store_of(&data, &registry.join("../registry/").to_string_lossy()));
        assert_eq!(store_of(&data, "s3://bucket/prefix/"), "s3://bucket/prefix");
        assert_eq!(store_of(&data, "s3://"), "s3://");
        assert_eq!(
            database_of(&data, ""),
            database_of(&data, &format!("sqlite:{}", data.queue_file().display()))
        );
        assert_eq!(database_of(&data, "postgres://u:secret@h/d"), "postgres://u:***@h/d");
    }
}
