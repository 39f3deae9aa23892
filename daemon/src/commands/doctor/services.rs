//! What the daemon works with: the queue, the store, and the daemon that may run already.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use chrono::Utc;
use dpg_api::Client;
use dpg_queue::Queue;
use dpg_registry::{open_store, probe_conditional_put};

use super::check::Check;
use crate::settings::address::masked;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::resident::{Record, Resident, differs};
use crate::terminal::told::{causes, hint, told};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon of the data folder, if one runs, answers.
pub(super) async fn resident(data: &DataDir, config: &Config) -> Option<Check> {
    let name = "daemon";
    let Resident::Running(record) = Resident::of(data) else { return None };
    let Some(Record { pid, url: Some(url), store, database, .. }) = record else {
        return Some(Check::warning(name, "it has just been started", "repeat in a moment"));
    };
    let client = Client::new(&url, None).ok()?;
    if !client.is_alive().await {
        let remedy = "look at its log, or stop it and start it again";
        return Some(Check::failed(name, format!("pid {pid} at `{url}` does not answer"), remedy));
    }
    let settings = "it runs with other settings than these: start it again, or give these to `dpg doctor`";
    if let Some(differs) = differs(data, config, &store, &database) {
        return Some(Check::warning(name, format!("pid {pid} at `{url}`: {differs}"), settings));
    }
    Some(Check::ok(name, format!("pid {pid} answers at `{url}`")))
}

/// The queue answers, and its clock is ours.
pub(super) async fn queue(data: &DataDir, config: &Config) -> Vec<Check> {
    let location = match &config.database {
        file if file.is_empty() => format!("sqlite:{}", data.queue_file().display()),
        database => database.clone(),
    };
    let started = Instant::now();
    let ask = async {
        let queue = Queue::open(&location).await?;
        let (before, now) = (Utc::now(), queue.now().await?);
        let after = Utc::now();
        queue.close().await;
        // between asking and answer the clock may have been anything in between
        let ahead = (now - after).max(before - now).max(chrono::TimeDelta::zero());
        anyhow::Ok(ahead)
    };
    let shown = masked(&location);
    let answer = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(anyhow!("no answer")));
    let ahead = match answer {
        Ok(ahead) => ahead,
        Err(error) => {
            let remedy = "start the database, or correct `database` and its password";
            return vec![Check::failed("queue", format!("`{shown}`: {}", told(&error)), remedy)];
        }
    };
    let answered = format!("`{shown}` answers in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let seconds = ahead.as_seconds_f64();
    let remedy = "set this machine's clock (NTP): S3 refuses requests that are 15 minutes off";
    let apart = format!("{seconds:.1} s from the queue's");
    let clock = match seconds {
        0.0..2.0 => Check::ok("clock", apart),
        2.0..300.0 => Check::warning("clock", apart, remedy),
        _ => Check::failed("clock", apart, remedy),
    };
    vec![Check::ok("queue", answered), clock]
}

/// The store lets one of several racing creates win.
pub(super) async fn store(data: &DataDir, config: &Config) -> Check {
    let probe = async {
        let location = match &config.store {
            folder if folder.is_empty() => data.registry_dir()?.to_string_lossy().into_owned(),
            store => store.clone(),
        };
        let (store, prefix) = open_store(&location)?;
        let probed = tokio::time::timeout(2 * PATIENCE, probe_conditional_put(&store, &prefix));
        probed.await.map_err(|_| anyhow!("`{location}` does not answer"))??;
        anyhow::Ok(format!("`{location}` keeps racing creates apart"))
    };
    let is_s3 = config.store.starts_with("s3://");
    let remedy =
        if is_s3 { "check AWS_ENDPOINT_URL and `store`" } else { "choose another folder in `store`" };
    match probe.await {
        Ok(detail) => Check::ok("store", detail),
        // most of what a store says comes with its own remedy
        Err(error) => Check::failed("store", causes(&error), hint(&error).unwrap_or_else(|| remedy.into())),
    }
}
