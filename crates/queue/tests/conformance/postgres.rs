//! A private PostgreSQL server in a temporary folder, on a Unix socket, shared by the tests that run at
//! one time and stopped after the last.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tempfile::TempDir;

static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// `nobody`, on the systems that run these tests.
const NOBODY: u32 = 65534;

pub(crate) struct Server {
    programs: PathBuf,
    folder: TempDir,
    /// The user who runs the tests.
    user: u32,
}

/// The server, started if it is not running; `None` where PostgreSQL is not installed.
pub(crate) fn server() -> Option<Arc<Server>> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = running.upgrade() {
        return Some(server);
    }
    let server = Arc::new(Server::start(programs()?));
    *running = Arc::downgrade(&server);
    Some(server)
}

/// The folder of `initdb` and `pg_ctl`: on the PATH, or where Debian hides them.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    let has_both = |folder: &PathBuf| ["initdb", "pg_ctl"].iter().all(|name| folder.join(name).exists());
    std::env::split_paths(&path).chain(versions.into_iter().rev()).find(has_both)
}

impl Server {
    fn start(programs: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = folder.path().metadata().unwrap().uid();
        let server = Self { programs, folder, user };
        if server.user == 0 {
            chown(server.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        server.call("initdb", &["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]);
        // in the file, where a benchmark can turn it on again
        let settings = server.folder().join("data/postgresql.conf");
        std::fs::File::options().append(true).open(settings).unwrap().write_all(b"fsync = off\n").unwrap();
        let options =
            format!("-k '{}' -c listen_addresses= -c max_connections=400", server.folder().display());
        server.call("pg_ctl", &["start", "-w", "-l", "log", "-o", &options]);
        sqlx::any::install_default_drivers();
        server
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs one of PostgreSQL's programs; not as root, which they refuse.
    fn call(&self, program: &str, arguments: &[&str]) {
        let output = self.folder().join(format!("{program}.out"));
        let out = std::fs::File::create(&output).unwrap();
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder()).env("LC_ALL", "C").env("PGDATA", self.folder().join("data"));
        command.args(arguments).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        if self.user == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        let status = command.status().unwrap();
        let said = |file: PathBuf| std::fs::read_to_string(file).unwrap_or_default();
        assert!(status.success(), "{program}: {}{}", said(output), said(self.folder().join("log")));
    }

    /// Restarts it; `mode` is `fast`, which ends its clients' connections, or `immediate`, a crash.
    #[allow(dead_code, reason = "not every test restarts it")]
    pub(crate) fn restart(&self, mode: &str) {
        self.call("pg_ctl", &["restart", "-w", "-l", "log", "-m", mode]);
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder().display())
    }

    /// Makes an empty database and gives its address.
    pub(crate) async fn new_database(&self) -> String {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let mut connection = AnyConnection::connect(&self.url("postgres")).await.unwrap();
        let statement = format!("create database {name}");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        self.url(&name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.call("pg_ctl", &["stop", "-m", "immediate"]);
    }
}
