//! The embedded backend: one file, for one machine.

use std::path::Path;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, Connection};

use crate::{Error, dialect::Dialect};

pub(crate) const DIALECT: Dialect = Dialect {
    // Taking the write lock at once: a read lock that grows into one can fail where a wait would do.
    begin: "begin immediate",
    // The lock is on the whole file, so rows need none and there are none to skip.
    lock: "",
    skip_locked: "",
    migrating: "select 1",
    now: "cast(unixepoch('subsec') * 1000 as integer)",
};

/// The busy timeout comes first, so that the others wait for other processes too. A commit is on
/// disk when it returns (`FULL`).
const PRAGMAS: &str = "pragma busy_timeout = 30000; pragma journal_mode = wal; pragma synchronous = full; \
                       pragma foreign_keys = on";

/// Opens the file, made if absent.
pub(crate) async fn connect(path: &Path) -> Result<AnyPool, Error> {
    make_private(path)?;
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let url = format!("sqlite:{path}?mode=rwc");
    // a pool repeats what fails, and says in the end that it waited
    let mut first = AnyConnection::connect(&url).await?;
    sqlx::raw_sql(PRAGMAS).execute(&mut first).await?;
    first.close().await?;
    // SQLite has one writer at a time: one connection queues its users in order, where several would
    // poll for the lock.
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::raw_sql(PRAGMAS).execute(connection).await.map(drop) })
        })
        .connect(&url)
        .await?;
    Ok(pool)
}

/// Makes the file as its owner's alone, whatever the umask says, and closes one that others may read.
/// SQLite gives the files beside it the same mode.
///
/// The file is never opened here: closing it again would drop this process's locks on it.
#[cfg(unix)]
fn make_private(path: &Path) -> Result<(), Error> {
    use std::fs::{self, OpenOptions, Permissions};
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let failed = |error| Error::from(sqlx::Error::Io(error));
    if let Ok(found) = fs::metadata(path) {
        let mode = found.permissions().mode();
        if mode & 0o077 != 0 {
            // on a volume that belongs to another user it stays as it is
            let _ = fs::set_permissions(path, Permissions::from_mode(mode & 0o700));
        }
        return Ok(());
    }
    let draft = path.with_extension(format!("{}.partial", uuid::Uuid::new_v4()));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(failed)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn make_private(_path: &Path) -> Result<(), Error> {
    Ok(())
}
