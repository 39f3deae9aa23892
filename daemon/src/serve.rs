//! `dpg serve`: the daemon.

use std::path::PathBuf;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{
    cli::ServeArguments,
    config::Config,
    data_dir::DataDir,
    http,
    services::{Services, default_config},
    stop::Stop,
    worker,
};

/// Serves until told to stop.
pub(crate) async fn serve(data: DataDir, arguments: ServeArguments) -> anyhow::Result<()> {
    let file: Option<PathBuf> = arguments.config.or_else(|| default_config(&data));
    let mut config = Config::load(file.as_deref())?;
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    config.database = arguments.database.unwrap_or(config.database);
    config.store = arguments.store.unwrap_or(config.store);
    config.check()?;
    let stop = Stop::listen()?;
    let services = Services::open(config, data).await?;
    let listen = services.config.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on `{listen}`"))?;
    eprintln!("dpg serves http://{}", listener.local_addr()?);
    let stopped = async move {
        while !stop.is_set() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        served = http::serve(services.clone(), listener, stopped) => served,
        worked = worker::work(services) => worked,
    }
}
