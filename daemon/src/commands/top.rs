//! `dpg top`: the jobs that run and wait, over and over.

use std::time::Duration;

use ::console::Term;
use clap::Args;
use dpg_api::{Client, Job, JobQuery, State};
use serde_json::{Value, json};

use crate::commands::connect::Connection;
use crate::commands::show;
use crate::terminal::{self, console, span};

/// Jobs asked for in a state.
const MOST: u32 = 200;

/// What `dpg top` takes.
#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// Seconds between two looks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Look once and end, as it does where standard output is not a terminal.
    #[arg(long)]
    once: bool,
}

/// Shows the running jobs and those that wait.
pub(crate) async fn top(
    connection: &Connection,
    arguments: TopArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let screen = Term::stdout();
    let once = arguments.once || as_json || !screen.is_term();
    loop {
        let (running, queued) = tokio::try_join!(
            jobs(&connection.client, State::Running),
            jobs(&connection.client, State::Queued)
        )?;
        if once {
            let columns = terminal::columns(&screen);
            show(as_json, &json!({ "running": running, "queued": queued }), || {
                table(&running, &queued, columns).join("\n")
            });
            return Ok(());
        }
        // the window may have another size by now
        let (rows, columns) = (usize::from(screen.size().0), terminal::columns(&screen));
        let mut lines = table(&running, &queued, columns);
        lines.truncate(rows.saturating_sub(1).max(1));
        console::line(lines.join("\n"))?;
        tokio::time::sleep(Duration::from_secs(arguments.every)).await;
        screen.clear_last_lines(lines.len())?;
    }
}

/// The jobs in a state, in the order in which they are or will be worked on.
async fn jobs(client: &Client, state: State) -> Result<Vec<Job>, dpg_api::Error> {
    let query = JobQuery { state: Some(state), limit: Some(MOST), ..JobQuery::default() };
    let mut jobs = client.jobs(&query).await?.jobs;
    jobs.sort_by_key(|job| (-job.priority, job.id));
    Ok(jobs)
}

fn table(running: &[Job], queued: &[Job], columns: usize) -> Vec<String> {
    let mut lines = vec![format!("{} running, {} queued", running.len(), queued.len())];
    if !running.is_empty() || !queued.is_empty() {
        let head = ["DATASET", "STAGE", "STEP", "PHI", "PACE", "ETA", "WORKER"].map(String::from);
        lines.push(row(head));
    }
    lines.extend(running.iter().map(runs).chain(queued.iter().map(waits)));
    lines.iter().map(|line| line.trim_end().chars().take(columns).collect()).collect()
}

fn row([name, stage, step, phi, pace, eta, worker]: [String; 7]) -> String {
    let name: String = name.chars().take(22).collect();
    terminal::line(&format!("{name:<22} {stage:<10} {step:>9} {phi:>10} {pace:>8} {eta:>7}  {worker}"))
}

fn runs(job: &Job) -> String {
    let progress = job.progress.as_ref();
    let number = |key: &str| progress.and_then(|progress| progress.get(key)).and_then(Value::as_f64);
    let stage = progress.and_then(|progress| progress.get("stage")).and_then(Value::as_str);
    let stage = if job.cancel_requested.is_some() { "cancelling" } else { stage.unwrap_or("starting") };
    let step = number("step").zip(number("steps")).map(|(step, steps)| format!("{step}/{steps}"));
    row([
        job.name.clone(),
        stage.to_owned(),
        step.unwrap_or_default(),
        number("phi").map(|phi| format!("{phi:.5}")).unwrap_or_default(),
        number("seconds_per_step").map(|pace| format!("{pace:.1} s")).unwrap_or_default(),
        number("eta_seconds").map(span).unwrap_or_default(),
        job.worker.clone().unwrap_or_default(),
    ])
}

fn waits(job: &Job) -> String {
    // one that failed before waits for its next attempt
    let again = (job.attempts > 0).then(|| format!("attempt {} of {}", job.attempts + 1, job.max_attempts));
    let nothing = String::new;
    let after = again.unwrap_or_default();
    row([job.name.clone(), "queued".into(), nothing(), nothing(), nothing(), nothing(), after])
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn job(name: &str, state: State, progress: Option<Value>) -> Job {
        Job {
            id: Uuid::nil(),
            name: name.into(),
            state,
            key: None,
            priority: 0,
            attempts: 0,
            max_attempts: 3,
            not_before: DateTime::UNIX_EPOCH,
            worker: progress.as_ref().map(|_| "machine-7-0".into()),
            cancel_requested: None,
            progress,
            result: None,
            error: None,
            spec_sha256: String::new(),
            schedule: None,
            due: None,
            last_event: 1,
            created: DateTime::UNIX_EPOCH,
            updated: DateTime::UNIX_EPOCH,
            finished: None,
        }
    }

    #[test]
    fn a_row_says_where_a_job_stands_and_fits() {
        let progress = json!({
            "stage": "training", "step": 12, "steps": 100, "phi": -2.306358, "seconds_per_step": 15.12,
            "eta_seconds": 1330.0
        });
        let running = [job("spanish", State::Running, Some(progress))];
        let queued = [job("a-name-that-is-longer-than-most", State::Queued, None)];
        let lines = table(&running, &queued, 80);
        assert_eq!(
            lines,
            [
                "1 running, 1 queued",
                "DATASET                STAGE           STEP        PHI     PACE     ETA  WORKER",
                "spanish                training      12/100   -2.30636   15.1 s  22 min  machine",
                "a-name-that-is-longer- queued",
            ]
        );
        assert_eq!(table(&[], &[], 80), ["0 running, 0 queued"]);
    }
}
