//! A spec's text becomes a job of the queue, off the threads that answer requests.

use std::path::PathBuf;

use anyhow::Context;
use dpg_api::Fault;
use dpg_hub::{Options, Uri};
use dpg_queue::NewJob;
use dpg_spec::{Error, Spec, Syntax};

use crate::pipeline::memory;
use crate::services::Services;
use crate::settings::allow;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;

/// Reads a spec as it was submitted: JSON if it begins with `{`, which TOML does not.
pub(crate) fn parse(text: &str) -> Result<Spec, Error> {
    let syntax = if text.trim_start().starts_with('{') { Syntax::Json } else { Syntax::Toml };
    Spec::parse(text, syntax)
}

/// The job that a spec's text asks for, or everything that is wrong with the text. Few texts are read at
/// once, however many are submitted.
///
/// # Errors
/// The daemon cannot look at it.
pub(crate) async fn job(services: &Services, text: &str) -> anyhow::Result<Result<NewJob, Vec<Fault>>> {
    let _turn = services.readers.acquire().await.context("the daemon is going down")?;
    let (text, config, data) = (text.to_owned(), services.config.clone(), services.data.clone());
    let read = move || read(&text, &config, &data);
    tokio::task::spawn_blocking(read).await.context("reading the spec panicked")?
}

fn read(text: &str, config: &Config, data: &DataDir) -> anyhow::Result<Result<NewJob, Vec<Fault>>> {
    let (spec, job) = match parse(text).map_err(faults).and_then(|spec| checked(text, spec, config)) {
        Ok(checked) => checked,
        Err(faults) => return Ok(Err(faults)),
    };
    // another machine may do the work of a daemon without slots
    if config.worker.slots == 0 {
        return Ok(Ok(job));
    }
    let hub = data.hub()?;
    let on_cpu = config.device == "cpu";
    Ok(match memory::excess(&spec, on_cpu, |uri| known(uri, &hub)) {
        Some(excess) => Err(vec![Fault { path: excess.key.into(), line: None, message: excess.to_string() }]),
        None => Ok(job),
    })
}

/// The job of a spec that the settings allow.
fn checked(text: &str, spec: Spec, config: &Config) -> Result<(Spec, NewJob), Vec<Fault>> {
    spec.generator().map_err(faults)?;
    let refused = allow::faults(&spec, &config.allow);
    if !refused.is_empty() {
        return Err(refused);
    }
    let resolved = serde_json::to_string(&spec)
        .map_err(|error| vec![Fault { path: String::new(), line: None, message: error.to_string() }])?;
    let job = NewJob {
        name: spec.name.clone(),
        key: None,
        spec: text.into(),
        resolved,
        spec_sha256: spec.sha256(),
        priority: 0,
        max_attempts: config.worker.max_attempts,
        not_before: None,
        schedule: None,
        due: None,
    };
    Ok((spec, job))
}

/// The folder of a model that is on this machine already.
fn known(uri: &str, hub: &Options) -> Option<PathBuf> {
    match Uri::parse(uri).ok()? {
        Uri::Local(path) => Some(path),
        Uri::Embedded(name) => Some(hub.embedded.join(name)),
        Uri::HuggingFace { .. } | Uri::S3 { .. } => None,
    }
}

fn faults(error: Error) -> Vec<Fault> {
    let whole = |message: String| vec![Fault { path: String::new(), line: None, message }];
    match error {
        Error::Invalid(problems) => {
            let fault = |problem: dpg_spec::Problem| Fault {
                path: problem.path,
                line: problem.line,
                message: problem.message,
            };
            problems.into_iter().map(fault).collect()
        }
        Error::Toml(source) => whole(format!("not valid TOML: {}", source.to_string().trim_end())),
        Error::Json(source) => whole(format!("not valid JSON: {source}")),
        error => whole(error.to_string()),
    }
}
