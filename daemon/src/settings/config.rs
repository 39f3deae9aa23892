//! Settings of the daemon: `config/dpg.toml` documents every one with its default.
//!
//! A file gives what differs from the defaults; environment variables override the file, and flags
//! override both. A key that is not known is an error.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::settings::data_dir::DataDir;
use crate::settings::overrides::Overrides;
use crate::settings::teachers::Teachers;

/// The daemon's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the HTTP API.
    pub(crate) listen: SocketAddr,
    /// Allow an address that other machines can reach without `[tls]`.
    pub(crate) insecure: bool,
    /// Address under which clients reach this daemon, for links; `listen` if empty.
    pub(crate) public_url: String,
    /// `sqlite:PATH` or `postgres://...`; a file in the data folder if empty.
    pub(crate) database: String,
    /// A folder or `s3://bucket/prefix`; a folder in the data folder if empty.
    pub(crate) store: String,
    /// What jobs are computed on: `cpu`, `cuda:N`, `wgpu:N`, or several of one kind.
    pub(crate) device: String,
    /// Certificate and key of the API.
    pub(crate) tls: Option<Tls>,
    /// How jobs are worked on.
    pub(crate) worker: Worker,
    /// What specs may read and start.
    pub(crate) allow: Allow,
    /// What the names of teachers behind an API stand for.
    pub(crate) teachers: Teachers,
    /// Limits of the API.
    pub(crate) limits: Limits,
    /// Whose records of verifications count.
    pub(crate) trust: Trust,
    /// What is kept.
    pub(crate) retention: Retention,
    /// Who is told when a job ends.
    pub(crate) webhooks: Vec<Webhook>,
    /// Where jobs are logged to besides.
    pub(crate) mlflow: Option<Mlflow>,
}

/// An MLflow server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mlflow {
    /// Its address.
    pub(crate) url: String,
    /// The experiment whose runs jobs are.
    #[serde(default = "experiment")]
    pub(crate) experiment: String,
    /// The environment variable with its token; none is sent if empty.
    #[serde(default)]
    pub(crate) token_env: String,
}

fn experiment() -> String {
    "dpg".into()
}

/// Certificate and key of the API, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// The certificate chain.
    pub(crate) certificate: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
}

/// How jobs are worked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Worker {
    /// Jobs at once; 0 makes a daemon that serves the API alone.
    pub(crate) slots: usize,
    /// Seconds after which another worker takes over a job whose worker has not been heard of.
    pub(crate) lease_seconds: u64,
    /// Seconds between two looks at an empty queue.
    pub(crate) poll_seconds: f64,
    /// Attempts before a job fails for good.
    pub(crate) max_attempts: u32,
    /// Seconds that running jobs have to reach a checkpoint at shutdown.
    pub(crate) shutdown_seconds: u64,
    /// Seconds between two copies of a run's state in the store, from which another machine resumes.
    pub(crate) checkpoint_seconds: u64,
}

/// What specs may read and start. Embedded models are always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Allow {
    /// Folders.
    pub(crate) folders: Vec<PathBuf>,
    /// S3 buckets.
    pub(crate) buckets: Vec<String>,
    /// Hugging Face organisations or `org/name`; `*` is all.
    pub(crate) hugging_face: Vec<String>,
    /// Hosts that webhooks may call.
    pub(crate) webhook_hosts: Vec<String>,
    /// Programs that may measure, by the names that specs give them, each a command of the shell.
    pub(crate) programs: BTreeMap<String, String>,
}

/// Limits of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Largest request body in bytes.
    pub(crate) body_bytes: usize,
    /// Seconds a request may take, streams and downloads apart.
    pub(crate) request_seconds: u64,
    /// Requests of one token in a minute.
    pub(crate) requests_per_minute: u32,
    /// Requests of one address with wrong tokens in a minute.
    pub(crate) failures_per_minute: u32,
    /// Seconds in which a request's head must arrive, and that a connection may be idle.
    pub(crate) head_seconds: u64,
    /// Open connections.
    pub(crate) connections: usize,
    /// Open connections of one address.
    pub(crate) connections_per_address: usize,
    /// Jobs that one token follows at once.
    pub(crate) streams_per_token: usize,
}

/// Whose records of verifications count, besides the daemon's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Trust {
    /// Public keys by the name they are shown under.
    pub(crate) keys: BTreeMap<String, String>,
}

/// What is kept; the rest is removed once a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retention {
    /// Versions kept of a dataset, tagged ones and the latest apart; 0 keeps all.
    pub(crate) versions: usize,
}

/// A program that is told when a job ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// Where it is told.
    pub(crate) url: String,
    /// File with the secret that signs what is sent.
    pub(crate) secret_file: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7117)),
            insecure: false,
            public_url: String::new(),
            database: String::new(),
            store: String::new(),
            device: "cpu".into(),
            tls: None,
            worker: Worker::default(),
            allow: Allow::default(),
            teachers: Teachers::new(),
            limits: Limits::default(),
            trust: Trust::default(),
            retention: Retention::default(),
            webhooks: vec![],
            mlflow: None,
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            slots: 1,
            lease_seconds: 60,
            poll_seconds: 1.0,
            max_attempts: 3,
            shutdown_seconds: 60,
            checkpoint_seconds: 30,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            request_seconds: 30,
            requests_per_minute: 600,
            failures_per_minute: 60,
            head_seconds: 15,
            connections: 512,
            connections_per_address: 128,
            streams_per_token: 16,
        }
    }
}

impl Config {
    /// The settings in `file`, or the defaults without one.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the settings in `{}`", file.display()))?;
        let config: Self = toml::from_str(&text)
            .map_err(|error| match meant(error.message()) {
                Some(known) => anyhow!("{error}did you mean `{known}`?"),
                None => anyhow!("{}", error.to_string().trim_end()),
            })
            .with_context(|| format!("`{}` is not a settings file", file.display()))?;
        config.check().with_context(|| format!("`{}`", file.display()))?;
        Ok(config)
    }

    /// The settings in force: those of the file named or of the data folder's, with what flags and
    /// environment override.
    pub(crate) fn effective(data: &DataDir, overrides: &Overrides) -> anyhow::Result<Self> {
        let standard = || Some(data.path("dpg.toml")).filter(|path| path.exists());
        let file = overrides.config.clone().or_else(standard);
        let config = Self::load(file.as_deref())?.overridden(overrides);
        config.check()?;
        Ok(config)
    }

    /// The settings in force for a command that takes none, as `dpg serve` would read them.
    pub(crate) fn in_force(data: &DataDir) -> anyhow::Result<Self> {
        Self::effective(data, &Overrides::of_environment())
    }

    /// With what flags and environment say.
    pub(crate) fn overridden(mut self, overrides: &Overrides) -> Self {
        self.listen = overrides.listen.unwrap_or(self.listen);
        self.database = overrides.database.clone().unwrap_or(self.database);
        self.store = overrides.store.clone().unwrap_or(self.store);
        self.device = overrides.device.clone().unwrap_or(self.device);
        self
    }

    /// Refuses settings that cannot work or are not safe.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if !self.listen.ip().is_loopback() && self.tls.is_none() && !self.insecure {
            bail!(
                "`listen = \"{}\"` can be reached from other machines and tokens would travel in the clear; \
                 give a certificate in [tls], or say `insecure = true` if something in front of it does TLS",
                self.listen
            );
        }
        dpg_models::device::parse(&self.device)?;
        for (name, command) in &self.allow.programs {
            dpg_spec::check_program(name, command)
                .map_err(|reason| anyhow!("`allow.programs.{name}`: {reason}"))?;
        }
        for (name, key) in &self.trust.keys {
            dpg_registry::check_public_key(key).with_context(|| format!("`trust.keys.{name}`"))?;
        }
        if self.worker.lease_seconds < 2 {
            bail!("`worker.lease_seconds` is {}, expected at least 2", self.worker.lease_seconds);
        }
        if self.worker.max_attempts == 0 {
            bail!("`worker.max_attempts` is 0, expected at least 1");
        }
        Ok(())
    }
}

/// The setting that was meant by an unknown one, by the parser's message: the unknown name stands in
/// its first backticks, the known ones in the others.
fn meant(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let closeness = |known: &str| strsim::jaro_winkler(unknown, known);
    let known = names.max_by(|one, other| closeness(one).total_cmp(&closeness(other)))?;
    (closeness(known) > 0.85).then(|| known.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Config;

    const FILE: &str = include_str!("../../../config/dpg.toml");

    /// Paths of all keys; of a list's tables, those of the first.
    fn keys(value: &toml::Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    keys(value, &format!("{path}.{key}"), found);
                }
            }
            toml::Value::Array(items) if items.first().is_some_and(toml::Value::is_table) => {
                keys(&items[0], path, found);
            }
            _ => drop(found.insert(path.to_owned())),
        }
    }

    #[test]
    fn the_documented_settings_are_the_defaults() {
        assert_eq!(toml::from_str::<Config>(FILE).unwrap(), Config::default());
    }

    /// The examples start with `#` and no space; with them the file has every setting there is.
    #[test]
    fn every_setting_is_documented() {
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(example) if example.starts_with(|first: char| !first.is_whitespace()) => {
                format!("{example}\n")
            }
            _ => format!("{line}\n"),
        };
        let text: String = FILE.lines().map(uncomment).collect();
        let config: Config = toml::from_str(&text).unwrap();
        config.check().unwrap();
        assert!(config.tls.is_some() && !config.webhooks.is_empty());
        let (mut documented, mut known) = (BTreeSet::new(), BTreeSet::new());
        keys(&toml::from_str(&text).unwrap(), "", &mut documented);
        keys(&toml::Value::try_from(&config).unwrap(), "", &mut known);
        assert_eq!(documented, known);
        for line in FILE.lines().filter(|line| line.contains('=') && !line.starts_with("# ")) {
            let before = FILE[..FILE.find(line).unwrap()].trim_end().lines().last().unwrap();
            assert!(before.starts_with("# "), "nothing is said of `{line}`");
        }
    }

    #[test]
    fn an_unknown_setting_is_refused_with_the_one_that_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dpg.toml");
        let message = |text: &str| {
            std::fs::write(&file, text).unwrap();
            format!("{:#}", Config::load(Some(&file)).unwrap_err())
        };
        assert!(message("[worker]\nlease_second = 5\n").ends_with("did you mean `lease_seconds`?"));
        let far = message("colour = 1\n");
        assert!(far.contains("unknown field `colour`, expected one of `listen`"), "{far}");
        assert!(!far.contains("did you mean"), "{far}");
        assert!(message("listen = \"0.0.0.0:7117\"\n").contains("can be reached from other machines"));
    }
}
