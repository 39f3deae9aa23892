//! The daemon's side of its workers: a process each, so that no job ends the daemon.
//!
//! A slot of `dpg serve` is a child process of the same program (`child.rs`). Its standard input carries
//! the settings, then `stop` when the daemon goes down; the input ends with the daemon, however that ends,
//! and the child with it, so that nobody works on a job that another daemon takes over. Its standard
//! output carries what it tells, a line of JSON each: the lease that it holds, and what it measures.
//!
//! A job that ends its process, by a failed allocation, a stack that overflows, or the system that wants
//! its memory back, fails for good, and the slot gets a new process.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use dpg_queue::Lease;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::jobs::hold::Reason;
use crate::jobs::protocol::{Orders, STOP, Told};
use crate::jobs::worker;
use crate::services::Services;
use crate::terminal::console::voice;
use crate::terminal::stop::Stop;
use crate::terminal::told::told;

/// The command that a worker process is started with.
pub(crate) const COMMAND: &str = "worker";
/// Wait before a process that ended without a job is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps a worker process for every slot until told to stop and the last job is put away.
pub(crate) async fn supervise(services: &Services, stop: &Stop) -> anyhow::Result<()> {
    let mut slots = JoinSet::new();
    for slot in 0..services.config.worker.slots {
        slots.spawn(keep(services.clone(), slot, stop.clone()));
    }
    while let Some(ended) = slots.join_next().await {
        ended.context("the supervisor of a worker panicked")?;
    }
    Ok(())
}

async fn keep(services: Services, slot: usize, stop: Stop) {
    while !stop.is_set() {
        let mut held = Held::default();
        let ended = run(&services, slot, &stop, &mut held).await;
        let said = match &ended {
            Ok(status) => describe(*status),
            Err(error) => told(error),
        };
        match held {
            Held { lease: Some(lease), left: Some(reason) } => {
                worker::put_away(&services, lease, reason).await;
            }
            Held { lease: Some(lease), left: None } => {
                let error = format!(
                    "the job ended its worker process ({said}) and is not tried again; lower what it asks for, or \
                     retry it on a larger machine"
                );
                worker::blame(&services, lease, &error).await;
            }
            Held { lease: None, .. } if stop.is_set() => {}
            Held { lease: None, .. } => {
                warn!(slot, "a worker process ended without a job ({said}); starting another");
                tokio::select! { () = stop.wait() => {}, () = sleep(PAUSE) => {} }
            }
        }
    }
}

/// What is known of a worker process's job.
#[derive(Default)]
struct Held {
    lease: Option<Lease>,
    left: Option<Reason>,
}

/// Runs a worker process to its end.
async fn run(services: &Services, slot: usize, stop: &Stop, held: &mut Held) -> anyhow::Result<ExitStatus> {
    let mut child = Command::new(program()?)
        .arg(COMMAND)
        .args(voice().flag())
        .arg("--data-dir")
        .arg(services.data.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a worker process")?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (mut input, output) = input.zip(output).context("a worker process has no pipes")?;
    info!(slot, process = child.id(), "a worker process");
    let orders = Orders { config: (*services.config).clone(), slot };
    // one that is gone already is found out below
    let _ = input.write_all(format!("{}\n", serde_json::to_string(&orders)?).as_bytes()).await;
    let mut lines = BufReader::new(output).lines();
    let mut stopping = false;
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => hear(&line, held),
                Ok(None) | Err(_) => break,
            },
            () = stop.wait(), if !stopping => {
                stopping = true;
                let _ = input.write_all(format!("{STOP}\n").as_bytes()).await;
            }
        }
    }
    Ok(child.wait().await?)
}

fn hear(line: &str, held: &mut Held) {
    match serde_json::from_str(line) {
        Ok(Told::Holds(lease)) => held.lease = lease,
        Ok(Told::Left(reason)) => held.left = Some(reason),
        Ok(Told::Measured(measured)) => measured.record(),
        Err(error) => warn!("a worker process says what cannot be understood: {error}"),
    }
}

/// This program, also when its file has been replaced meanwhile.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return Ok(own.into());
    }
    std::env::current_exe().context("cannot find this program")
}

/// How a process ended, and what that is a sign of.
fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(6) => "signal 6: memory that it could not get, or a stack that overflowed".into(),
        Some(9) => "signal 9: the system ends processes so when memory runs out".into(),
        Some(signal) => format!("signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or(-1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_was_told_stands() {
        let mut held = Held::default();
        let lease = Lease { job: uuid::Uuid::nil(), fence: 2 };
        let tell = |told: Told, held: &mut Held| hear(&serde_json::to_string(&told).unwrap(), held);
        tell(Told::Holds(Some(lease)), &mut held);
        hear("not JSON", &mut held);
        assert_eq!((held.lease, held.left), (Some(lease), None));
        tell(Told::Left(Reason::Cancelled), &mut held);
        assert_eq!(held.left, Some(Reason::Cancelled));
        tell(Told::Holds(None), &mut held);
        assert_eq!(held.lease, None);
    }
}
