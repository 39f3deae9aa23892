//! Holding a lease while a job runs, and hearing when the run has to stop.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dpg_queue::{Error, Lease, Order, Queue};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// How soon a cancel is heard, however long the lease is.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);

/// Why a run has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// Somebody cancelled the job.
    Cancelled,
    /// The job may be another worker's by now.
    LeaseLost,
    /// The daemon shuts down.
    Shutdown,
}

/// Whether a run has to stop; the first reason stands. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Halt(Arc<OnceLock<Reason>>);

impl Halt {
    pub(crate) fn set(&self, reason: Reason) {
        // a later reason changes nothing
        let _ = self.0.set(reason);
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.0.get().copied()
    }

    /// Ready soon after a run has to stop.
    pub(crate) async fn wait(&self) {
        while self.reason().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Renews a lease for `length` again and again, three times before it runs out, until it is lost.
pub(crate) async fn hold(queue: Queue, lease: Lease, length: Duration, halt: Halt) {
    let mut beat = tokio::time::interval((length / 3).min(LONGEST_SILENCE));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut renewed = Instant::now();
    loop {
        beat.tick().await;
        let asked = Instant::now();
        match queue.heartbeat(&lease, length).await {
            Ok(order) => {
                renewed = asked;
                if order == Order::Cancel {
                    halt.set(Reason::Cancelled);
                }
            }
            Err(Error::LeaseLost { .. }) => return halt.set(Reason::LeaseLost),
            Err(error) => {
                warn!(job = %lease.job, "cannot renew the lease: {:#}", anyhow::Error::from(error));
                if renewed.elapsed() > length {
                    return halt.set(Reason::LeaseLost);
                }
            }
        }
    }
}
