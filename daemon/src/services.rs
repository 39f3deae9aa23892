//! What the daemon's parts share: settings, queue, registry, and the data folder.

use std::sync::Arc;

use anyhow::Context;
use dpg_queue::Queue;
use dpg_registry::{Registry, open_store};
use object_store::{ObjectStore, path::Path};
use tokio::sync::Semaphore;

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
        let listeners = config.webhooks.iter().map(|webhook| webhook.url.clone());
        let queue = queue.context("cannot open the queue")?.telling(listeners);
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
