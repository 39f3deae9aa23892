//! What the daemon's parts share: settings, queue, registry, and the data folder.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use dpg_queue::Queue;
use dpg_registry::{Registry, open_store};
use object_store::{ObjectStore, path::Path};
use tokio::sync::Semaphore;

use crate::cli::ServeArguments;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;

/// One of each; clones share them.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) config: Arc<Config>,
    pub(crate) data: Arc<DataDir>,
    pub(crate) queue: Queue,
    pub(crate) registry: Registry,
    /// Where datasets and the copies of runs' states are.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The prefix in it; copies of states are under `.runs/` there.
    pub(crate) prefix: Path,
    /// How many more specs may be read at once.
    pub(crate) readers: Arc<Semaphore>,
}

/// Specs that are read at once.
const READERS: usize = 2;

impl Services {
    /// Opens queue and store as the settings say.
    pub(crate) async fn open(config: Config, data: DataDir) -> anyhow::Result<Self> {
        let queue = if config.database.is_empty() {
            Queue::sqlite(&data.queue_file()).await
        } else {
            Queue::open(&config.database).await
        };
        let queue = queue.context("cannot open the queue")?;
        let (store, prefix) = if config.store.is_empty() {
            open_store(&data.registry_dir()?.to_string_lossy())?
        } else {
            open_store(&config.store)?
        };
        let registry = Registry::new(Arc::clone(&store), prefix.clone(), data.key_file());
        let registry = registry.trusting(&config.trust.keys)?;
        let (config, data, readers) = (Arc::new(config), Arc::new(data), Arc::new(Semaphore::new(READERS)));
        Ok(Self { config, data, queue, registry, store, prefix, readers })
    }
}

/// The settings in force for a command that takes none: those of `DPG_CONFIG` or the data folder, with the
/// queue and the store that the environment names, as `dpg serve` reads them.
pub(crate) fn settings(data: &DataDir) -> anyhow::Result<Config> {
    let named = |variable| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let arguments = ServeArguments {
        config: named("DPG_CONFIG").map(PathBuf::from),
        listen: None,
        database: named("DPG_DATABASE"),
        store: named("DPG_STORE"),
        device: None,
    };
    Config::effective(data, &arguments)
}

/// The settings file that is used when none is named: `dpg.toml` in the data folder, if it is there.
pub(crate) fn default_config(data: &DataDir) -> Option<PathBuf> {
    Some(data.path("dpg.toml")).filter(|path| path.exists())
}
