//! What the daemon and its worker processes tell each other: lines of JSON on a worker's standard input and
//! output.

use std::io::Write;

use dpg_queue::Lease;
use metrics::{counter, gauge, histogram};
use serde::{Deserialize, Serialize};

use crate::jobs::hold::Reason;
use crate::settings::config::Config;

/// What a worker process is told to end by.
pub(crate) const STOP: &str = "stop";

/// What a worker process is to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) config: Config,
    /// Its number.
    pub(crate) slot: usize,
}

/// What a worker process tells.
#[derive(Serialize, Deserialize)]
pub(crate) enum Told {
    /// It holds this lease, or none.
    Holds(Option<Lease>),
    /// The run did not stop although it had to; the process ends to be rid of it.
    Left(Reason),
    /// It has counted or measured something.
    Measured(Measured),
}

/// A figure with its name and labels.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) figure: Figure,
}

/// What is counted or measured.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Figure {
    /// So many more.
    Counter(u64),
    /// So much as of now.
    Gauge(f64),
    /// One of many.
    Histogram(f64),
}

impl Measured {
    /// Records it in this process.
    pub(crate) fn record(self) {
        let Self { name, labels, figure } = self;
        match figure {
            Figure::Counter(more) => counter!(name, &labels).increment(more),
            Figure::Gauge(value) => gauge!(name, &labels).set(value),
            Figure::Histogram(value) => histogram!(name, &labels).record(value),
        }
    }
}

/// Tells the daemon something, on this process's standard output.
pub(crate) fn tell(told: &Told) {
    let Ok(line) = serde_json::to_string(told) else { return };
    let mut output = std::io::stdout().lock();
    // a daemon that is gone hears nothing, and the input's end tells of it
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
