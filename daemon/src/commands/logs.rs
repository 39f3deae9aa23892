//! `dpg logs`, and watching a job until it ends.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use dpg_api::{Client, Event, Job, State, Update};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::commands::connect::Connection;
use crate::terminal;
use crate::terminal::console::{self, Voice, voice};

/// How a watched job is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Events on standard output, as text or as one JSON object a line.
    Logs {
        /// As JSON.
        json: bool,
    },
    /// On standard error, for whoever waits.
    Wait {
        /// Not at all.
        quiet: bool,
    },
}

/// Shows a job's events; with `follow`, until it ends.
pub(crate) async fn logs(
    connection: &Connection,
    job: &str,
    follow: bool,
    as_json: bool,
) -> anyhow::Result<()> {
    let client = &connection.client;
    // a name may come to mean another job meanwhile
    let id = client.job(job).await?.job.id.to_string();
    if follow {
        let job = watch(client, &id, 0, Style::Logs { json: as_json }).await?;
        return check_succeeded(&job);
    }
    let mut after = 0;
    loop {
        let events = client.events(&id, after, 500).await?.events;
        let Some(last) = events.last() else { return Ok(()) };
        after = last.seq;
        for event in &events {
            if as_json { console::document(json!(event)) } else { console::line(line(event)) }?;
        }
    }
}

/// An error for a job that ended otherwise than well, so that the exit code of whoever followed it says so.
pub(crate) fn check_succeeded(job: &Job) -> anyhow::Result<()> {
    if job.state != State::Succeeded {
        bail!("job {} of `{}` is {}", job.id, job.name, job.state);
    }
    Ok(())
}

/// Tells what happens to a job until it ends.
pub(crate) async fn watch(client: &Client, id: &str, after: i64, style: Style) -> anyhow::Result<Job> {
    let bar = bar(style);
    let mut follow = client.follow(id, after);
    loop {
        match follow.next().await? {
            Update::Event(event) => match style {
                Style::Logs { json: true } => console::document(json!(event))?,
                Style::Logs { json: false } => bar.suspend(|| console::line(line(&event)))?,
                Style::Wait { quiet: true } => {}
                Style::Wait { quiet: false } => bar.suspend(|| console::tell(line(&event))),
            },
            Update::Progress(progress) => {
                let number = |key: &str| progress.get(key).and_then(Value::as_u64);
                bar.set_length(number("steps").unwrap_or_default());
                bar.set_position(number("step").unwrap_or_default());
                bar.set_message(terminal::line(&summary(&progress, &["step", "steps"])));
            }
            Update::End(job) => {
                bar.finish_and_clear();
                return Ok(*job);
            }
        }
    }
}

/// A bar on a terminal; elsewhere the events say enough.
fn bar(style: Style) -> ProgressBar {
    let shown = std::io::stderr().is_terminal()
        && voice() != Voice::Quiet
        && matches!(style, Style::Logs { json: false } | Style::Wait { quiet: false });
    if !shown {
        return ProgressBar::hidden();
    }
    let template = ProgressStyle::with_template("{spinner} {bar:12} {pos}/{len} steps  {wide_msg}");
    let bar = ProgressBar::new(0).with_style(template.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// An event in a line; several steps in one event are a line each.
pub(crate) fn line(event: &Event) -> String {
    let at = event.at.format("%Y-%m-%d %H:%M:%S");
    if let (Some(records), Some(steps)) = (event.detail["records"].as_array(), event.detail["steps"].as_u64())
    {
        let step = |record: &Value| {
            let told = format!("{at}  step {}/{steps}  {}", record["step"], summary(record, &["step"]));
            terminal::line(&told)
        };
        return records.iter().map(step).collect::<Vec<_>>().join("\n");
    }
    terminal::line(format!("{at}  {:<16} {}", event.kind, summary(&event.detail, &[])).trim_end())
}

/// The plain members of an object, but `except`, in a line.
pub(crate) fn summary(detail: &Value, except: &[&str]) -> String {
    let Some(members) = detail.as_object() else { return plain(detail) };
    let shown = members
        .iter()
        .filter(|(key, value)| !except.contains(&key.as_str()) && !value.is_null() && !value.is_array());
    shown.map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join("  ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().replace('\n', " / "),
        Value::Number(number) => match number.as_f64() {
            Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number}"),
            Some(number) if (1e-3..1e6).contains(&number.abs()) => format!("{number:.4}"),
            Some(number) => format!("{number:.3e}"),
            None => number.to_string(),
        },
        Value::Object(_) => format!("({})", summary(value, &[])),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn events_are_told_in_a_line() {
        let event =
            |kind: &str, detail| Event { seq: 1, at: DateTime::UNIX_EPOCH, kind: kind.into(), detail };
        assert_eq!(
            line(&event("claimed", json!({"owner": "host", "due": null}))),
            "1970-01-01 00:00:00  claimed          owner host"
        );
        let detail = json!({"steps": 3, "records": [{"step": 1, "phi": -0.5}, {"step": 2, "phi": 1e-9}]});
        assert_eq!(
            line(&event("steps", detail)),
            "1970-01-01 00:00:00  step 1/3  phi -0.5000\n1970-01-01 00:00:00  step 2/3  phi 1.000e-9"
        );
        assert_eq!(line(&event("cancelled", json!({}))), "1970-01-01 00:00:00  cancelled");
    }
}
