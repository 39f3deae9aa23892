//! A resolved spec becomes a dataset that can be published: run, write the shards.
//!
//! Killed at any point and called again with the same folder, it goes on from the last step and
//! ends with the same dataset.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use chrono::Utc;
use dpg_dataset::{Split, write_split};
use dpg_engine::{Event, History, Outcome, Run, Source, Target};
use dpg_registry::Snapshot;
use dpg_spec::Spec;

use crate::{compute::compute, describe::card, resolve::Resolved};

/// What is to be made, and where its state is kept.
pub(crate) struct Work {
    /// The spec, with everything it names on this machine.
    pub(crate) resolved: Resolved,
    /// What it is computed on.
    pub(crate) devices: Vec<Device>,
    /// Folder of the run's state; it exists.
    pub(crate) folder: PathBuf,
    /// The job's id: it is published once, however often it is made.
    pub(crate) job: String,
    /// Number of this attempt, higher than any before.
    pub(crate) fence: u64,
}

/// Makes a dataset. `tell` hears what happens; `stop` is asked often, and true ends
/// the run with its state in the folder.
pub(crate) async fn make(
    work: Work,
    mut tell: impl FnMut(&Event) + Send + 'static,
    stop: impl Fn() -> bool + Send + Sync + 'static,
) -> anyhow::Result<(Snapshot, History)> {
    let started_at = Utc::now();
    let Work { resolved, devices, folder, job, fence } = work;
    let Resolved { spec, local, models } = resolved;
    let state = folder.clone();
    let mut outcome = compute(move || optimise(&local, &devices, &state, &mut tell, &stop)).await?;
    let shards = folder.join("dataset");
    if shards.exists() {
        std::fs::remove_dir_all(&shards)?;
    }
    std::fs::create_dir_all(&shards)?;
    let written = write_split(&shards, Split::Train, spec.output.format, std::mem::take(&mut outcome.rows))?;
    let finished_at = Utc::now();
    let snapshot = Snapshot {
        job,
        fence,
        card: card(&spec, &outcome, finished_at),
        spec: spec.to_toml()?,
        folder: shards,
        shards: written,
        pictures: outcome.pictures.into_iter().map(|picture| (picture.name, picture.png.into())).collect(),
        started_at,
        finished_at,
        dependencies: models,
        withheld: None,
    };
    Ok((snapshot, outcome.history))
}

fn optimise(
    spec: &Spec,
    devices: &[Device],
    folder: &Path,
    tell: &mut dyn FnMut(&Event),
    stop: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<Outcome> {
    let target = Target::load(spec, DType::F32, devices)?;
    let source = Source::load(spec, devices)?;
    let metric = target.metric(spec)?;
    let run =
        Run { spec, target: &target, source: &source, metric: metric.as_ref(), folder, cancelled: stop };
    Ok(run.run(tell)?)
}
