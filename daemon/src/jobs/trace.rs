//! A job as a trace of OpenTelemetry, from its submission to its end, made of its record in the queue when it has ended.
//!
//! The trace's id is the job's. Below the job stand the times that it waited and its attempts; below an attempt its steps,
//! the drawing of the dataset, and its verification. What else was recorded is an event of the attempt. A step's times
//! are as exact as the record, a second.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dpg_api::State;
use dpg_queue::{Event, Job, Queue};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tracing::warn;

use crate::jobs::otlp::{Attributes, Collector, TRACES, Value, attributes, nanoseconds};
use crate::pipeline::protobuf::Field;
use crate::terminal::told::told;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Events that are read at once, and at most.
const PAGE: u32 = 1000;
const MOST: usize = 100_000;

/// Sends the trace of a job that has ended, where there is a collector. One that does not answer costs a warning.
pub(crate) async fn ended(queue: &Queue, job: &Job) {
    let send = async {
        let Some(collector) = Collector::from_env(TRACES)? else { return Ok(()) };
        let spans = spans(job, &record(queue, job).await?);
        collector.traces(spans.iter().map(|span| span.field(job)).collect()).await
    };
    match timeout(TIMEOUT, send).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(job = %job.id, "cannot send the job's trace: {}", told(&error)),
        Err(_) => warn!(job = %job.id, "cannot send the job's trace: no answer in time"),
    }
}

/// All that was recorded of a job.
async fn record(queue: &Queue, job: &Job) -> anyhow::Result<Vec<Event>> {
    let mut events: Vec<Event> = vec![];
    while events.len() < MOST {
        let more = queue.events(job.id, events.last().map_or(0, |last| last.seq), PAGE).await?;
        if more.is_empty() {
            break;
        }
        events.extend(more);
    }
    Ok(events)
}

/// Something that took a time.
#[derive(Debug)]
struct Span {
    name: String,
    /// The spans above it by their names; none of the job itself.
    within: Vec<String>,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    attributes: Attributes,
    events: Vec<(DateTime<Utc>, String, Attributes)>,
    /// Why it failed.
    error: Option<String>,
}

impl Span {
    fn new(name: impl Into<String>, within: &[&str], start: DateTime<Utc>) -> Self {
        let within = within.iter().map(|name| (*name).to_owned()).collect();
        Self { name: name.into(), within, start, end: start, attributes: vec![], events: vec![], error: None }
    }

    /// The same each time, so that a trace that is sent twice is one.
    fn id(job: &Job, path: &[String]) -> Field {
        let hash = Sha256::digest(format!("{}/{}", job.id, path.join("/")));
        Field::Bytes(hash[..8].to_vec())
    }

    fn field(&self, job: &Job) -> Field {
        let path = [&self.within[..], std::slice::from_ref(&self.name)].concat();
        let mut fields = vec![
            (1, Field::Bytes(job.id.as_bytes().to_vec())),
            (2, Self::id(job, &path)),
            (5, Field::text(&self.name)),
            // of a program's own, neither of a client nor of a server
            (6, Field::Varint(1)),
            (7, nanoseconds(self.start)),
            (8, nanoseconds(self.end.max(self.start))),
        ];
        if !self.within.is_empty() {
            fields.push((4, Self::id(job, &self.within)));
        }
        fields.extend(attributes(9, &self.attributes));
        for (at, name, about) in &self.events {
            let mut event = vec![(1, nanoseconds(*at)), (2, Field::text(name))];
            event.extend(attributes(3, about));
            fields.push((11, Field::message(&event)));
        }
        let status = match &self.error {
            Some(error) => vec![(2, Field::text(error)), (3, Field::Varint(2))],
            None => vec![(3, Field::Varint(1))],
        };
        fields.push((15, Field::message(&status)));
        Field::message(&fields)
    }
}

/// The spans of a job, that of the job first.
fn spans(job: &Job, events: &[Event]) -> Vec<Span> {
    let name = format!("job {}", job.name);
    let mut root = Span::new(&name, &[], job.created);
    root.end = job.finished.unwrap_or(job.updated);
    let text = |value: &str| Value::Text(value.into());
    root.attributes = vec![
        ("dpg.job".into(), text(&job.id.to_string())),
        ("dpg.dataset".into(), text(&job.name)),
        ("dpg.spec_sha256".into(), text(&job.spec_sha256)),
        ("dpg.state".into(), text(job.state.as_str())),
        ("dpg.attempts".into(), Value::Integer(job.attempts.into())),
    ];
    let result = |key: &str| job.result.as_ref().map(|result| &result[key]);
    root.attributes.extend(
        result("dataset").and_then(Json::as_str).map(|version| ("dpg.version".into(), text(version))),
    );
    root.attributes
        .extend(result("rows").and_then(Json::as_i64).map(|rows| ("dpg.rows".into(), Value::Integer(rows))));
    root.error = (job.state == State::Failed).then(|| job.error.clone().unwrap_or_default());
    let end = root.end;

    let mut done = vec![root];
    let mut waits = 0;
    let mut attempts = 0;
    // what is going on: a wait or an attempt, and a stage of that
    let (mut open, mut stage): (Option<Span>, Option<Span>) = (None, None);
    for event in events {
        let (kind, at) = (event.kind.as_str(), event.at);
        let ends_stage = matches!(kind, "drawing" | "verifying" | "published") || changes_hands(kind);
        if ends_stage && let Some(mut ended) = stage.take() {
            ended.end = at;
            done.push(ended);
        }
        if changes_hands(kind)
            && let Some(mut ended) = open.take()
        {
            ended.end = at;
            let failed = matches!(kind, "attempt_failed" | "lease_lost" | "failed");
            ended.error = failed.then(|| event.detail["error"].as_str().unwrap_or(kind).to_owned());
            done.push(ended);
        }
        match kind {
            "submitted" | "retried" | "attempt_failed" | "lease_lost" | "released" => {
                waits += 1;
                open = Some(Span::new(format!("wait {waits}"), &[&name], at));
            }
            "claimed" => {
                attempts += 1;
                let mut attempt = Span::new(format!("attempt {attempts}"), &[&name], at);
                attempt.attributes = plain(&event.detail);
                open = Some(attempt);
            }
            "steps" => {
                if let Some(attempt) = &open {
                    done.extend(steps(event, &name, &attempt.name));
                }
            }
            "drawing" | "verifying" => {
                if let Some(attempt) = &open {
                    let mut begun = Span::new(kind, &[&name, &attempt.name], at);
                    begun.attributes = plain(&event.detail);
                    stage = Some(begun);
                }
            }
            _ => {
                let of = if changes_hands(kind) { None } else { open.as_mut() };
                of.unwrap_or(&mut done[0]).events.push((at, kind.into(), plain(&event.detail)));
            }
        }
    }
    // a job that ended has nothing open but the wait that its last failure began
    done.extend(
        stage.into_iter().chain(open.filter(|span| span.start < end)).map(|span| Span { end, ..span }),
    );
    done
}

/// Whether a job goes from one to another with this event, or ends.
fn changes_hands(kind: &str) -> bool {
    matches!(
        kind,
        "submitted"
            | "retried"
            | "claimed"
            | "attempt_failed"
            | "lease_lost"
            | "released"
            | "succeeded"
            | "failed"
            | "cancelled"
    )
}

/// The steps of an event, the last of which ended with it.
fn steps(event: &Event, job: &str, attempt: &str) -> Vec<Span> {
    let mut end = event.at;
    let records = event.detail["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let step = |record: &Json| {
        let seconds = record["seconds"].as_f64().unwrap_or_default();
        let took = TimeDelta::milliseconds((seconds * 1e3) as i64);
        let mut span = Span::new(format!("step {}", record["step"]), &[job, attempt], end - took);
        span.end = end;
        span.attributes = plain(record);
        end = span.start;
        span
    };
    records.iter().rev().map(step).collect()
}

/// The plain values of a detail.
fn plain(detail: &Json) -> Attributes {
    let members = detail.as_object().into_iter().flatten();
    let attribute = |(name, value): (&String, &Json)| {
        let value = match value {
            Json::String(text) => Value::Text(text.clone()),
            Json::Number(number) => number
                .as_i64()
                .map_or_else(|| Value::Number(number.as_f64().unwrap_or_default()), Value::Integer),
            _ => return None,
        };
        Some((format!("dpg.{name}"), value))
    };
    members.filter_map(attribute).collect()
}
