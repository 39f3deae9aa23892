//! A worker process: one slot of a daemon, which started it and hears what it tells (`supervisor.rs`).

use std::io::{BufRead, Write};
use std::thread;

use anyhow::Context;
use tokio::sync::watch;

use crate::jobs::measure::Forward;
use crate::jobs::supervisor::{Orders, STOP, Told};
use crate::jobs::worker::work_slot;
use crate::services::Services;
use crate::settings::data_dir::DataDir;
use crate::terminal::stop::Stop;

/// Works on jobs until the daemon says to stop, and ends at once when the daemon is gone.
pub(crate) async fn work(data: DataDir) -> anyhow::Result<()> {
    // of a machine that runs out of memory, this process goes before the daemon
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let orders: Orders = serde_json::from_str(&line)
        .context("`dpg serve` starts this command, with its orders on the standard input")?;
    let (set, stop) = watch::channel(false);
    let stop = Stop::by(stop)?;
    thread::Builder::new().name("daemon".into()).spawn(move || listen(&set))?;
    Forward::install();
    let services = Services::open(orders.config, data).await?;
    let left = work_slot(&services, orders.slot, &stop, &|lease| tell(&Told::Holds(lease))).await;
    match left {
        Some((_, reason)) => tell(&Told::Left(reason)),
        None => services.queue.close().await,
    }
    Ok(())
}

/// Hears the daemon, to its end.
fn listen(set: &watch::Sender<bool>) {
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(line) if line == STOP => drop(set.send_replace(true)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    // the job's lease runs out, and the next daemon goes on from what was saved
    std::process::exit(1);
}

/// Tells the daemon.
pub(crate) fn tell(told: &Told) {
    let Ok(line) = serde_json::to_string(told) else { return };
    let mut output = std::io::stdout().lock();
    // a daemon that is gone hears nothing, and the input's end tells of it
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
