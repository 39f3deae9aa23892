//! A resolved spec becomes a dataset that can be published: run, write the shards.
//!
//! Killed at any point and called again with the same folder, it goes on from the last step and
//! ends with the same dataset.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use burn::tensor::{DType, Device};
use chrono::Utc;
use dpg_dataset::{Split, write_split};
use dpg_engine::{Event, History, Outcome, Problem, Run, Verification};
use dpg_registry::{GENERATOR, Local, ManifestFile, Registry, Snapshot, Version};
use dpg_spec::{Generator, Length, PublishIf, Spec};

use crate::pipeline::compute::compute;
use crate::pipeline::describe::{card, versions};
use crate::pipeline::lengths;
use crate::pipeline::memory;
use crate::pipeline::quality::Quality;
use crate::pipeline::resolve::Resolved;
use crate::pipeline::teacher::Teaching;
use crate::pipeline::verification;

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

/// What was made.
pub(crate) struct Made {
    /// The dataset, withheld if it was tried out and failed.
    pub(crate) snapshot: Snapshot,
    /// What happened.
    pub(crate) history: History,
    /// What there is to say of the rows and of the metric.
    pub(crate) quality: Quality,
    /// What its teacher did, if one wrote it.
    pub(crate) teaching: Option<Teaching>,
    /// What trying it out showed, if its spec asks for that.
    pub(crate) verification: Option<Verification>,
}

/// Makes a dataset. `tell` hears what happens; `stop` is asked often, and true ends
/// the run with its state in the folder.
pub(crate) async fn make(
    work: Work,
    mut tell: impl FnMut(&Event) + Send + 'static,
    stop: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> anyhow::Result<Made> {
    let started_at = Utc::now();
    let Work { resolved, devices, folder, job, fence } = work;
    let Resolved { spec, local, models } = resolved;
    memory::check(&local, &devices)?;
    // what was made before it stopped may be half of it
    let dataset = folder.join("dataset");
    if dataset.exists() {
        std::fs::remove_dir_all(&dataset)?;
    }
    std::fs::create_dir_all(&dataset)?;
    let recipe = dpg_engine::recipe(&local)?;
    let local = Arc::new(local);
    let (to_optimise, to_run_on, to_stop) = (Arc::clone(&local), devices.clone(), stop.clone());
    let state = folder.clone();
    let optimise = move || {
        let optimised = optimise(&to_optimise, &to_run_on, &state, &mut tell, &to_stop)?;
        Ok((optimised, tell))
    };
    let (Optimised { mut outcome, quality, programs }, mut tell) = compute(optimise).await?;
    let shards = write_split(&dataset, Split::Train, spec.output.format, std::mem::take(&mut outcome.rows))?;
    let verification = match spec.output.publish_if {
        None => None,
        Some(PublishIf::BetterThanControls) => {
            let dataset = dataset.clone();
            tell(&Event::Verifying { orders: verification::ORDERS });
            let verify =
                move || verification::verify(&local, &devices, &dataset, verification::ORDERS, |_| (), &stop);
            Some(compute(verify).await.context("cannot try the dataset out")?)
        }
    };
    if spec.output.export_generator
        && let Some(generator) =
            spec.generator.as_ref().and_then(Generator::local).filter(|generator| generator.lora.is_some())
    {
        // as written, which others find as well
        dpg_models::name_base(&Local(&dataset).generator(), &generator.model)?;
    }
    let finished_at = Utc::now();
    let mut card = card(&spec, &outcome, &recipe, &quality, finished_at);
    card.metric += &versions(&programs);
    let teaching = Teaching::of(&mut outcome, &spec);
    if let Some((teaching, generator)) = teaching.as_ref().zip(spec.generator.as_ref()) {
        card.teacher = Some(teaching.markdown(generator));
    }
    card.lengths = outcome.lengths.as_ref().map(lengths::markdown);
    card.verification = verification.as_ref().map(verification::markdown);
    let snapshot = Snapshot {
        job,
        fence,
        card,
        spec: spec.to_toml()?,
        files: exported(&dataset)?,
        folder: dataset,
        shards,
        pictures: outcome.pictures.into_iter().map(|picture| (picture.name, picture.png.into())).collect(),
        started_at,
        finished_at,
        dependencies: models,
        withheld: verification.as_ref().and_then(verification::withheld),
    };
    Ok(Made { snapshot, history: outcome.history, quality, teaching, verification })
}

/// Publishes what was made, and records what trying it out showed.
pub(crate) async fn publish(registry: &Registry, made: &Made) -> anyhow::Result<Version> {
    let version = registry.publish(&made.snapshot).await.context("cannot publish the dataset")?;
    match &made.verification {
        // a version that an earlier attempt published has the record already, or nearly; what others
        // wrote of it is not that record
        Some(verification) if version.attestations.iter().all(|one| one.signer.is_none()) => {
            let report = verification::report(verification);
            let recorded = registry.attest(&version, verification.holds(), &report).await;
            recorded.context("cannot record the verification")
        }
        _ => Ok(version),
    }
}

/// What a run ends with.
struct Optimised {
    outcome: Outcome,
    quality: Quality,
    /// The programs that measured, and what each says of its version.
    programs: Vec<(String, String)>,
}

fn optimise(
    spec: &Spec,
    devices: &[Device],
    folder: &Path,
    tell: &mut dyn FnMut(&Event),
    stop: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<Optimised> {
    let mut problem = Problem::load(spec, DType::F32, devices, stop)?;
    let outcome = Run { problem: &mut problem, folder, stop }.run(tell)?;
    let writer = problem.writer()?;
    if spec.output.export_generator {
        writer.generator.export(&Local(&folder.join("dataset")).generator())?;
    }
    // prompts stand without what arms and classes put around them
    let template = match spec.generator()? {
        Generator::Local(local) if !spec.output.length.as_ref().is_some_and(Length::is_told) => {
            &local.template
        }
        _ => "{text}",
    };
    let quality = Quality::of(&outcome, spec.rows_wanted(), &writer.training, template);
    Ok(Optimised { outcome, quality, programs: problem.metric.programs() })
}

/// The files of the exported generator, if there is one.
fn exported(dataset: &Path) -> anyhow::Result<Vec<ManifestFile>> {
    let folder = Local(dataset).generator();
    if !folder.exists() {
        return Ok(vec![]);
    }
    let mut names = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    let read = |name: &String| ManifestFile::read(dataset, &format!("{GENERATOR}/{name}"));
    Ok(names.iter().map(read).collect::<Result<_, _>>()?)
}
