//! A spec's text becomes a job of the queue, off the threads that answer requests.

use std::path::PathBuf;

use anyhow::Context;
use dpg_api::Fault;
use dpg_hub::{Options, Uri};
use dpg_models::architecture;
use dpg_queue::{Job, NewJob, Resources};
use dpg_spec::{Error, Spec, Syntax};
use serde_json::{Map, Value};

use crate::pipeline::memory;
use crate::services::Services;
use crate::settings::allow;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::teachers;

/// Reads a spec as it was submitted: JSON if it begins with `{`, which TOML does not.
pub(crate) fn parse(text: &str) -> Result<Spec, Error> {
    let syntax = if text.trim_start().starts_with('{') { Syntax::Json } else { Syntax::Toml };
    Spec::parse(text, syntax)
}

/// The keys that a spec's author wrote, as in `policy.steps`; none of a text that is not one.
pub(crate) fn written(text: &str) -> Vec<String> {
    fn walk(path: &str, value: &Value, keys: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, value, keys);
            }),
            _ => keys.push(path.to_owned()),
        }
    }
    let value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).ok()
    } else {
        toml::from_str(text).ok()
    };
    let mut keys = vec![];
    walk("", &value.unwrap_or(Value::Object(Map::new())), &mut keys);
    keys
}

/// The spec that a job was shown to have when it was taken. One of a text that was not good then has none:
/// reading the text tells the reason.
pub(crate) fn shown(job: &Job) -> Result<Spec, Error> {
    if job.resolved == "null" { parse(&job.spec) } else { parse(&job.resolved) }
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
    let absent = absent_layers(&spec, |uri| known(uri, &hub));
    if !absent.is_empty() {
        return Ok(Err(absent));
    }
    let in_memory = dpg_models::device::backend(&config.device)?.is_in_host_memory();
    Ok(match memory::excess(&spec, in_memory, |uri| known(uri, &hub)) {
        Some(excess) => Err(vec![Fault { path: excess.key.into(), line: None, message: excess.to_string() }]),
        None => Ok(job),
    })
}

/// The job of a spec that the settings allow.
fn checked(text: &str, mut spec: Spec, config: &Config) -> Result<(Spec, NewJob), Vec<Fault>> {
    spec.generator().map_err(faults)?;
    let mut refused = allow::faults(&spec, &config.allow);
    refused.extend(teachers::fault(&mut spec, &config.teachers));
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
        needs: needs(&spec),
    };
    Ok((spec, job))
}

/// What a worker must have for a spec's job.
fn needs(spec: &Spec) -> Resources {
    let of = |asked: dpg_spec::Resources| Resources { gpus: asked.gpus, gpu_bytes: asked.gpu_bytes() };
    spec.resources.map_or_else(Resources::default, of)
}

/// The layers that the metric reads and the target has not, if the target is on this machine.
fn absent_layers(spec: &Spec, folder: impl Fn(&str) -> Option<PathBuf>) -> Vec<Fault> {
    let folder = folder(&spec.target.model);
    // whatever is wrong with the folder is told when the model is loaded
    let Some(lm) = folder.and_then(|folder| architecture(&folder).ok()) else { return vec![] };
    let absent = spec.metric.layers().into_iter().filter(|(_, layer)| *layer > lm.layers());
    let fault = |(path, layer)| {
        let message = format!("`{layer}` is over the target's {} layers", lm.layers());
        Fault { path, line: None, message }
    };
    absent.map(fault).collect()
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
            let fault = |of: dpg_spec::Fault| Fault { path: of.path, line: of.line, message: of.message };
            problems.into_iter().map(fault).collect()
        }
        Error::Toml(source) => whole(format!("not valid TOML: {}", source.to_string().trim_end())),
        Error::Json(source) => whole(format!("not valid JSON: {source}")),
        error => whole(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_layer_that_the_target_has_not_is_refused_by_its_key() {
        let activation = |layer: usize| {
            format!(
                "{{ kind = 'activation', layer = {layer}, data = {{ path = 'embedded:held-out/en.jsonl', column = 'text' }}, \
                 vector = {{ path = 'embedded:directions/spanish.safetensors' }} }}"
            )
        };
        let spec = |metric: &str| {
            let text = format!("name = 'a'\nmetric = {metric}\n[target]\nmodel = 'embedded:target'\n");
            Spec::parse(&text, Syntax::Toml).unwrap()
        };
        let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/embedded");
        let folder = |uri: &str| Some(embedded.join(uri.strip_prefix("embedded:")?));
        let keys = |metric: &str| -> Vec<String> {
            absent_layers(&spec(metric), folder).into_iter().map(|fault| fault.path).collect()
        };
        assert_eq!(keys(&activation(2)), [""; 0]);
        assert_eq!(keys(&activation(3)), ["metric.layer"]);
        let guard = format!(
            "{{ kind = 'guard', raise = {{ kind = 'weight_norm' }}, keep = [{{ tolerance = 0.0, metric = {} }}] }}",
            activation(9)
        );
        assert_eq!(keys(&guard), ["metric.keep[0].metric.layer"]);
    }
}
