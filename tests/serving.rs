//! A daemon as its users start it: the real program in a folder of its own.

#![allow(dead_code, reason = "not every test needs everything")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dpg_queue::{Event, Job, NewJob, Queue, Resources};
use uuid::Uuid;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(3);

/// A spec whose whole run takes about a second.
pub(crate) const SPEC: &str = r#"
name = "NAME"
seed = 5
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, eps_root = 1e-4 }
sequence_length = 32
batch_size = 8
[metric]
kind = "held_out_loss"
data = { path = "embedded:held-out/es.jsonl", column = "text", limit = 4 }
sequence_length = 128
[generator]
model = "embedded:generator"
prompts = { path = "embedded:prompts/articles.jsonl" }
template = "Rephrase the article.\n{text}\n"
max_new_tokens = 8
[policy]
steps = STEPS
prompts_per_step = 2
group_size = 2
minibatch_prompts = 2
validation_examples = 4
[output]
examples = 8
"#;

pub(crate) fn spec(name: &str, steps: usize) -> String {
    SPEC.replace("NAME", name).replace("STEPS", &steps.to_string())
}

pub(crate) fn job(spec: &str, max_attempts: u32) -> NewJob {
    let name = spec.split('"').nth(1).unwrap_or_default().to_owned();
    NewJob {
        key: None,
        spec: spec.to_owned(),
        resolved: "null".into(),
        spec_sha256: name.clone(),
        name,
        priority: 0,
        max_attempts,
        not_before: None,
        schedule: None,
        due: None,
        needs: Resources::default(),
    }
}

/// What a daemon is started with.
#[derive(Clone)]
pub(crate) struct Place {
    /// Its folder; `data`, `log` and `dpg.toml` are in it.
    pub(crate) folder: PathBuf,
    pub(crate) config: String,
    pub(crate) environment: Vec<(String, String)>,
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    /// Where its part of the log begins, after those of daemons before.
    begins: usize,
    place: Place,
}

impl Place {
    /// A place in `folder` with these settings on top of quick ones.
    pub(crate) fn new(folder: &Path, config: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        let config = format!(
            "{config}\n[worker]\nlease_seconds = 4\npoll_seconds = 0.1\ncheckpoint_seconds = 0\nshutdown_seconds = 30\n"
        );
        Self { folder: folder.into(), config, environment: vec![] }
    }

    /// A place whose daemon leaves jobs in the queue.
    pub(crate) fn idle(folder: &Path, config: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        Self {
            folder: folder.into(),
            config: format!("{config}\n[worker]\nslots = 0\n"),
            environment: vec![],
        }
    }

    /// Its embedded queue.
    pub(crate) async fn queue(&self) -> Queue {
        fs::create_dir_all(self.folder.join("data")).unwrap();
        Queue::sqlite(&self.folder.join("data/queue.db")).await.unwrap()
    }

    /// Starts a daemon here; its log goes on where an earlier one's stopped.
    pub(crate) fn start(&self) -> Daemon {
        self.start_at("127.0.0.1:0")
    }

    /// Starts a daemon here that listens at an address.
    pub(crate) fn start_at(&self, address: &str) -> Daemon {
        fs::write(self.folder.join("dpg.toml"), &self.config).unwrap();
        let log = self.folder.join("log");
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let begins = fs::metadata(&log).unwrap().len() as usize;
        let child = Command::new(env!("CARGO_BIN_EXE_dpg"))
            .args(["serve", "--data-dir", "data", "--config", "dpg.toml", "--listen", address])
            .envs(self.environment.clone())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Daemon { child, log, begins, place: self.clone() }
    }
}

impl Daemon {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap().split_off(self.begins)
    }

    /// Its process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// kill -9, and another one in its place.
    pub(crate) fn replace(&mut self) {
        self.kill();
        *self = self.place.start();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal();
        self.wait().await
    }

    pub(crate) fn signal(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the daemon goes on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it says where it is, so that programs of the data folder ask it.
    pub(crate) async fn listening(&self) {
        let (address, started) = (self.place.folder.join("data/daemon.url"), Instant::now());
        while !address.exists() {
            assert!(started.elapsed() < PATIENCE, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the job is as wanted.
    pub(crate) async fn until(&mut self, queue: &Queue, job: Uuid, wanted: impl Fn(&Job) -> bool) -> Job {
        let started = Instant::now();
        loop {
            let found = queue.job(job).await.unwrap();
            if wanted(&found) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon has ended: {}", self.log());
            assert!(started.elapsed() < PATIENCE, "waiting with {found:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the job's history has an event of this kind.
    pub(crate) async fn until_event(&mut self, queue: &Queue, job: Uuid, kind: &str) -> Event {
        let started = Instant::now();
        loop {
            let events = queue.events(job, 0, 1000).await.unwrap();
            if let Some(event) = events.iter().rfind(|event| event.kind == kind) {
                return event.clone();
            }
            assert!(started.elapsed() < PATIENCE, "no `{kind}` among {events:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
