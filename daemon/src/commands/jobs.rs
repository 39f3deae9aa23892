//! `dpg list`, `status`, `cancel`, `retry`.

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use dpg_api::{Job, JobDetail, JobQuery};
use dpg_queue::State;
use serde_json::json;

use crate::commands::connect::Connection;
use crate::commands::{
    logs::{line, summary},
    show,
};
use crate::terminal;

/// What `dpg list` takes.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only jobs in this state.
    #[arg(long, value_parser = state())]
    state: Option<State>,
    /// Only jobs of this dataset.
    #[arg(long)]
    name: Option<String>,
    /// Only jobs submitted at this time or later, as in `2026-01-31T00:00:00Z`.
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Jobs at most.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

fn state() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.iter().map(|state| state.as_str()))
        .try_map(|text| text.parse::<State>())
}

/// Lists jobs, newest first.
pub(crate) async fn list(
    connection: &Connection,
    arguments: ListArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let ListArguments { state, name, since, limit } = arguments;
    let mut query = JobQuery { state, name, since, ..JobQuery::default() };
    let mut jobs = Vec::new();
    while (jobs.len() as u32) < limit {
        query.limit = Some(limit - jobs.len() as u32);
        let page = connection.client.jobs(&query).await?;
        jobs.extend(page.jobs);
        query.cursor = page.next;
        if page.next.is_none() {
            break;
        }
    }
    show(as_json, &json!(jobs), || {
        if jobs.is_empty() {
            return "no jobs; `dpg submit SPEC` makes one".into();
        }
        let header = format!("{:<36}  {:<24} {:<10} {:<17} PROGRESS", "ID", "NAME", "STATE", "SUBMITTED");
        std::iter::once(header).chain(jobs.iter().map(row)).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

fn row(job: &Job) -> String {
    let created = job.created.format("%Y-%m-%d %H:%M");
    let row = format!(
        "{:<36}  {:<24} {:<10} {created:<17} {}",
        job.id.to_string(),
        job.name,
        standing(job),
        far(job)
    );
    row.trim_end().to_owned()
}

fn standing(job: &Job) -> &'static str {
    match job.state {
        State::Running if job.cancel_requested.is_some() => "cancelling",
        state => state.as_str(),
    }
}

fn far(job: &Job) -> String {
    let step =
        job.progress.as_ref().and_then(|p| Some((p.get("step")?.as_u64()?, p.get("steps")?.as_u64()?)));
    match (job.state, step) {
        (State::Failed, _) => {
            let error = job.error.as_deref().unwrap_or_default();
            terminal::line(&error.chars().take(80).collect::<String>())
        }
        (_, Some((step, steps))) => format!("{step}/{steps}"),
        (_, None) => String::new(),
    }
}

/// Shows a job and the last of its events.
pub(crate) async fn status(connection: &Connection, job: &str, as_json: bool) -> anyhow::Result<()> {
    let detail = connection.client.job(job).await?;
    let id = detail.job.id.to_string();
    let events = connection.client.events(&id, detail.job.last_event - 5, 500).await?.events;
    show(as_json, &json!(detail), || {
        let lines = events.iter().map(|event| format!("  {}", line(event).replace('\n', "\n  ")));
        format!("{}\n\n{}", described(&detail), lines.collect::<Vec<_>>().join("\n"))
    });
    Ok(())
}

fn described(detail: &JobDetail) -> String {
    let job = &detail.job;
    let mut rows = vec![
        ("job", job.id.to_string()),
        ("dataset", job.name.clone()),
        ("state", standing(job).to_owned()),
        ("attempts", format!("{} of {}", job.attempts, job.max_attempts)),
        ("submitted", job.created.to_rfc3339()),
    ];
    let mut row = |key, value: Option<String>| rows.extend(value.map(|value| (key, value)));
    row("ended", job.finished.map(|time| time.to_rfc3339()));
    row("not before", Some(job.not_before.to_rfc3339()).filter(|_| job.state == State::Queued));
    row("priority", Some(job.priority.to_string()).filter(|_| job.priority != 0));
    row("key", job.key.clone());
    row("worker", job.worker.clone());
    row("schedule", job.schedule.map(|id| id.to_string()));
    row("due", job.due.map(|time| time.to_rfc3339()));
    row("progress", job.progress.as_ref().map(|progress| summary(progress, &[])));
    row("result", job.result.as_ref().map(|result| summary(result, &[])));
    row("error", job.error.clone());
    rows.iter()
        .map(|(key, value)| format!("{key:<11}{}", terminal::line(value)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Cancels a job.
pub(crate) async fn cancel(connection: &Connection, job: &str, as_json: bool) -> anyhow::Result<()> {
    let job = connection.client.cancel(job).await?;
    show(as_json, &json!(job), || match job.state {
        State::Running => format!("job {} of `{}` stops at its next step", job.id, job.name),
        _ => format!("job {} of `{}` is cancelled", job.id, job.name),
    });
    Ok(())
}

/// Queues a job again.
pub(crate) async fn retry(connection: &Connection, job: &str, as_json: bool) -> anyhow::Result<()> {
    let job = connection.client.retry(job).await?;
    if job.state != State::Queued {
        bail!("job {} is {}, expected it to be queued", job.id, job.state);
    }
    show(as_json, &json!(job), || format!("job {} of `{}` is queued again", job.id, job.name));
    Ok(())
}
