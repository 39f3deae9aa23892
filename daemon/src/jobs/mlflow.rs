//! Logs jobs to an MLflow server, by its REST API: a run for each job, whatever number of attempts it takes.
//!
//! The run carries the job's id as a tag, by which a later attempt, perhaps on another machine, finds it again. Its
//! parameters are the spec, its metrics what TensorBoard is given. A server that does not answer costs a warning, and the
//! job goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use dpg_api::State;
use dpg_engine::Event;
use dpg_queue::Job;
use reqwest::{Client, redirect};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::pipeline::board;
use crate::settings::config::Mlflow;
use crate::terminal::told::told;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two calls with metrics.
const PERIOD: Duration = Duration::from_secs(2);
/// What one call may hold at most, by MLflow's own limits.
const METRICS: usize = 1000;
const PARAMETERS: usize = 100;
const CHARACTERS: usize = 500;
const TAG: &str = "dpg.job";

type Metrics = Vec<Value>;
type Listener = Box<dyn FnMut(&Event) + Send>;

/// A listener that hears all that `tell` hears, and what logs it meanwhile: that ends after the listener is dropped.
pub(crate) fn logging<'a>(
    settings: Option<&'a Mlflow>,
    job: &'a Job,
    mut tell: impl FnMut(&Event) + Send + 'static,
) -> (Listener, impl Future<Output = ()> + 'a) {
    let (send, metrics) = unbounded_channel();
    let listens = settings.is_some();
    let listener = move |event: &Event| {
        if listens && let Some(scalars) = board::scalars(event) {
            // a run that nobody listens to goes on
            drop(send.send(of_event(scalars)));
        }
        tell(event);
    };
    let log = async move {
        let Some(settings) = settings else { return };
        if let Err(error) = log(settings, job, metrics).await {
            warn!(job = %job.id, "cannot log the job to MLflow: {}", told(&error));
        }
    };
    (Box::new(listener), log)
}

/// Says how a job ended that has, if a run of it was logged.
pub(crate) async fn ended(settings: Option<&Mlflow>, job: &Job) {
    let Some(settings) = settings else { return };
    let end = async {
        let server = Server::new(settings)?;
        let Some(run) = server.find(&server.experiment().await?, job).await? else { return Ok(()) };
        if let Some(dataset) = job.result.as_ref().and_then(|result| result["dataset"].as_str()) {
            let tags = json!([{ "key": "dpg.dataset", "value": dataset }]);
            server.call("runs/log-batch", &json!({ "run_id": run, "tags": tags })).await?;
        }
        let status = match job.state {
            State::Succeeded => "FINISHED",
            State::Cancelled => "KILLED",
            State::Failed => "FAILED",
            State::Queued | State::Running => "RUNNING",
        };
        let now = job.finished.unwrap_or(job.updated).timestamp_millis();
        let update = json!({ "run_id": run, "status": status, "end_time": now });
        server.call("runs/update", &update).await.map(drop)
    };
    // the worker has more to do than to wait for it
    match timeout(TIMEOUT, end).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(job = %job.id, "cannot tell MLflow how the job ended: {}", told(&error)),
        Err(_) => warn!(job = %job.id, "cannot tell MLflow how the job ended: no answer in time"),
    }
}

async fn log(settings: &Mlflow, job: &Job, mut told: UnboundedReceiver<Metrics>) -> anyhow::Result<()> {
    let server = Server::new(settings)?;
    let experiment = server.experiment().await?;
    let run = match server.find(&experiment, job).await? {
        Some(run) => run,
        None => server.start(&experiment, job).await?,
    };
    while let Some(mut metrics) = told.recv().await {
        sleep(PERIOD).await;
        while let Ok(more) = told.try_recv() {
            metrics.extend(more);
        }
        for part in metrics.chunks(METRICS) {
            let batch = json!({ "run_id": run, "metrics": part });
            server.call("runs/log-batch", &batch).await?;
        }
    }
    Ok(())
}

fn of_event((step, scalars): (usize, Vec<(String, f64)>)) -> Metrics {
    let now = chrono::Utc::now().timestamp_millis();
    let finite = scalars.into_iter().filter(|(_, value)| value.is_finite());
    finite
        .map(|(key, value)| json!({ "key": plain(&key), "value": value, "timestamp": now, "step": step }))
        .collect()
}

/// A name of the characters that MLflow takes.
fn plain(name: &str) -> String {
    let taken = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | '/');
    name.chars().map(|c| if taken(c) { c } else { '_' }).collect()
}

/// The plain values of a spec, by their paths.
fn parameters(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                parameters(value, &below(key), found);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(found.insert(plain(path), text.chars().take(CHARACTERS).collect())),
        other => drop(found.insert(plain(path), other.to_string().chars().take(CHARACTERS).collect())),
    }
}

/// The server.
struct Server<'a> {
    client: Client,
    settings: &'a Mlflow,
    token: Option<String>,
}

impl<'a> Server<'a> {
    fn new(settings: &'a Mlflow) -> anyhow::Result<Self> {
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT).build()?;
        let token = (!settings.token_env.is_empty()).then(|| std::env::var(&settings.token_env));
        let token = token.transpose().with_context(|| format!("`{}` is not set", settings.token_env))?;
        Ok(Self { client, settings, token })
    }

    /// The id of the experiment, which is made if it is not there.
    async fn experiment(&self) -> anyhow::Result<String> {
        if let Some(found) = self.known_experiment().await? {
            return Ok(found);
        }
        let made = self.call("experiments/create", &json!({ "name": self.settings.experiment })).await;
        // another worker may have made it meanwhile
        match self.known_experiment().await? {
            Some(found) => Ok(found),
            None => Err(made.err().unwrap_or_else(|| anyhow!("the experiment was made and is not there"))),
        }
    }

    async fn known_experiment(&self) -> anyhow::Result<Option<String>> {
        let name = self.settings.experiment.replace('\'', "");
        let search = json!({ "max_results": 1, "filter": format!("name = '{name}'") });
        let found = self.call("experiments/search", &search).await?;
        Ok(found.pointer("/experiments/0/experiment_id").and_then(Value::as_str).map(str::to_owned))
    }

    /// The id of the job's run, if there is one.
    async fn find(&self, experiment: &str, job: &Job) -> anyhow::Result<Option<String>> {
        let filter = format!("tags.`{TAG}` = '{}'", job.id);
        let search = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let found = self.call("runs/search", &search).await?;
        Ok(found.pointer("/runs/0/info/run_id").and_then(Value::as_str).map(str::to_owned))
    }

    async fn start(&self, experiment: &str, job: &Job) -> anyhow::Result<String> {
        let tags =
            json!([{ "key": TAG, "value": job.id }, { "key": "dpg.spec_sha256", "value": job.spec_sha256 }]);
        let new = json!({
            "experiment_id": experiment,
            "run_name": job.name,
            "start_time": job.created.timestamp_millis(),
            "tags": tags,
        });
        let made = self.call("runs/create", &new).await?;
        let run =
            made.pointer("/run/info/run_id").and_then(Value::as_str).context("the answer has no `run_id`")?;
        let mut found = BTreeMap::new();
        parameters(&serde_json::from_str(&job.resolved).unwrap_or_default(), "", &mut found);
        let params: Vec<_> = found
            .into_iter()
            .take(PARAMETERS)
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect();
        self.call("runs/log-batch", &json!({ "run_id": run, "params": params })).await?;
        Ok(run.to_owned())
    }

    async fn call(&self, what: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/api/2.0/mlflow/{what}", self.settings.url.trim_end_matches('/'));
        let mut request = self.client.post(url).json(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        let answer: Value = answer.json().await.map_err(reqwest::Error::without_url).unwrap_or_default();
        if !status.is_success() {
            let why = answer["message"].as_str().unwrap_or("no reason was given");
            bail!("`{what}` was answered with {status}: {why}");
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_becomes_parameters() {
        let mut found = BTreeMap::new();
        let spec =
            json!({ "name": "a", "seed": 0, "metric": { "texts": ["x", "y"], "limit": null }, "é(": 1 });
        parameters(&spec, "", &mut found);
        let expected = [("__", "1"), ("metric.texts", "[\"x\",\"y\"]"), ("name", "a"), ("seed", "0")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
