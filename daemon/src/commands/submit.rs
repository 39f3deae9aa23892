//! `dpg submit`: a spec into the queue.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use dpg_api::{Job, SubmitJob};
use dpg_queue::State;
use dpg_spec::Spec;
use serde_json::{Value, json};

use crate::commands::connect::Connection;
use crate::commands::{logs, show, standard_input};
use crate::jobs::submission;
use crate::jobs::worker;

/// What `dpg submit` takes.
#[derive(Debug, Args)]
pub(crate) struct SubmitArguments {
    /// The target spec, TOML or JSON; `-` reads it from standard input.
    spec: PathBuf,
    /// Of submissions with one key, while its job is queued or running, only the first makes a job.
    #[arg(long)]
    key: Option<String>,
    /// Higher goes first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
    /// Wait for the job to end; the exit code is its success.
    #[arg(long)]
    wait: bool,
}

/// Submits a spec, and waits for its job if told to.
pub(crate) async fn submit(
    connection: Connection,
    arguments: SubmitArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let spec = Value::String(portable(&arguments.spec)?);
    let client = &connection.client;
    let new = SubmitJob { spec, priority: arguments.priority };
    let submitted = client.submit(&new, arguments.key.as_deref()).await?;
    let job = &submitted.job;
    if !arguments.wait {
        let idle = connection.embedded.is_some();
        show(as_json, &json!(submitted), || {
            let said = if submitted.created { "submitted as" } else { "has the live job" };
            let next = if idle {
                "no daemon is running: `dpg serve` starts one, and `dpg submit --wait` works without".into()
            } else {
                format!("follow it: dpg logs -f {}", job.id)
            };
            format!("`{}` {said} {}\n{next}", job.name, job.id)
        });
        return Ok(());
    }
    let id = job.id.to_string();
    let waited = logs::watch(client, &id, 0, logs::Style::Wait { quiet: as_json });
    let job = match connection.embedded {
        None => waited.await?,
        Some(services) => tokio::select! {
            job = waited => job?,
            worked = worker::work(services) => {
                worked?;
                bail!("stopped; `dpg submit --wait` with the same spec and key, or `dpg serve`, goes on with it");
            }
        },
    };
    show(as_json, &json!(job), || ended(&job));
    logs::check_succeeded(&job)
}

/// How a job ended, in a line or two.
pub(crate) fn ended(job: &Job) -> String {
    match (job.state, &job.error) {
        (State::Succeeded, _) => {
            let result = job.result.as_ref().and_then(|result| result.get("dataset")?.as_str());
            match result {
                Some(dataset) => {
                    let warnings =
                        job.result.as_ref().and_then(|result| result["quality"]["warnings"].as_array());
                    let warnings = warnings.into_iter().flatten().filter_map(Value::as_str);
                    let warnings: String = warnings.map(|warning| format!("\nWARNING: {warning}")).collect();
                    format!("published {dataset}{warnings}\nfetch it: dpg fetch {dataset} FOLDER")
                }
                None => format!("`{}` succeeded", job.name),
            }
        }
        (state, Some(error)) => format!("`{}` {state}: {error}", job.name),
        (state, None) => format!("`{}` {state}", job.name),
    }
}

/// The text of a spec for a daemon that does not know this folder: as it is, or written anew with
/// absolute paths if it has relative ones.
pub(crate) fn portable(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return standard_input();
    }
    let loaded = Spec::load(path)?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let as_written = submission::parse(&text)?;
    Ok(if as_written == loaded { text } else { loaded.to_toml()? })
}
