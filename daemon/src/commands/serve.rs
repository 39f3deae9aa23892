//! `dpg serve`: the daemon. Workers, each a process of its own, the ticker and the HTTP API share one
//! queue and one store.
//!
//! At the first SIGTERM or SIGINT the workers claim nothing more. Running jobs stop at their next step, leave
//! their state in the store and go back to the queue. Then the API ends. A second signal ends
//! the processes at once; the jobs' leases run out, and nothing that was saved is lost.

use anyhow::{Context, bail};
use dpg_registry::probe_conditional_put;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::clock::housekeeping::keep_house;
use crate::clock::schedule;
use crate::http;
use crate::jobs::otlp::{Collector, METRICS};
use crate::jobs::supervisor;
use crate::jobs::webhook;
use crate::services::Services;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::overrides::Overrides;
use crate::settings::resident::Occupied;
use crate::terminal::console::{note, tell};
use crate::terminal::stop::Stop;

/// Serves until told to stop.
pub(crate) async fn serve(data: DataDir, overrides: Overrides) -> anyhow::Result<()> {
    let config = Config::effective(&data, &overrides)?;
    webhook::check(&config)?;
    let collector = Collector::from_env(METRICS)?;
    let stop = Stop::listen()?;
    let mut occupied = Occupied::take(&data, &config)?;
    let services = Services::open(config, data).await?;
    tokio::select! {
        probed = probe_conditional_put(&services.store, &services.prefix) => {
            probed.context("cannot use the store")?;
        }
        () = stop.wait() => return Ok(()),
    }
    let listen = services.config.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on `{listen}`"))?;
    let url = http::url(&services, &listener)?;
    occupied.answers_at(&url)?;
    note(format_args!("dpg serves {url}"));
    tell(format_args!(
        "its page asks for a token: `{}` has one",
        services.data.path("admin.token").display()
    ));
    let ticker = schedule::start(&services).await?;
    let housekeeping = tokio::spawn(keep_house(services.clone()));
    let webhooks = tokio::spawn(webhook::tell(services.clone()));
    let telemetry = tokio::spawn(http::telemetry::send(services.clone(), collector));
    let (end, ended) = oneshot::channel::<()>();
    let shutdown = async move { drop(ended.await) };
    let mut api = tokio::spawn(http::serve(services.clone(), listener, shutdown));
    let work = async {
        supervisor::supervise(&services, &stop).await?;
        // without slots there is nothing to wait for but the signal
        stop.wait().await;
        anyhow::Ok(())
    };
    tokio::select! {
        worked = work => worked?,
        served = &mut api => {
            served.context("the HTTP API panicked")??;
            bail!("the HTTP API ended");
        }
    }
    // all end with the process in any case
    ticker.stop();
    housekeeping.abort();
    webhooks.abort();
    telemetry.abort();
    drop(end);
    api.await.context("the HTTP API panicked")??;
    services.queue.close().await;
    Ok(())
}
