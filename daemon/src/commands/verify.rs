//! `dpg verify`: does a published dataset do what it was made for?

use std::path::Path;

use anyhow::{Context, bail};
use burn::tensor::{DType, Device};
use dpg_dataset::{Columns, Example, read_examples, read_rewards};
use dpg_engine::{Arm, Run, Source, Target, Verification};
use dpg_spec::Spec;
use serde_json::json;

use crate::{
    commands::{
        datasets::{find, registry},
        show,
    },
    compute::compute,
    data_dir::DataDir,
    resolve::resolve,
    stop::Stop,
};

/// Fetches a version, fine-tunes fresh targets on it and on controls, and compares.
pub(crate) async fn verify(
    data: &DataDir,
    store: Option<&str>,
    dataset: &str,
    seeds: usize,
    device: &str,
    as_json: bool,
) -> anyhow::Result<()> {
    if seeds < 2 {
        bail!("--seeds {seeds}: expected at least 2, for intervals");
    }
    let devices = dpg_models::device::parse(device)?;
    let registry = registry(data, store)?;
    let version = find(&registry, dataset).await?;
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = place.path().join("dataset");
    registry.fetch(&version, &folder).await.with_context(|| format!("cannot fetch {version}"))?;
    let spec = resolve(Spec::load(&folder.join("spec.toml"))?, &data.hub()?).await?.local;
    let (examples, rewards) = rows(&folder.join("data"))?;
    let stop = Stop::listen()?;
    let verification =
        compute(move || verification(&spec, &devices, &examples, &rewards, seeds, &stop)).await?;
    let failures = verification.failures();
    let value = json!({
        "dataset": version.to_string(),
        "holds": failures.is_empty(),
        "failures": failures,
        "arms": verification,
    });
    show(as_json, &value, || text(&version.to_string(), &verification));
    if failures.is_empty() { Ok(()) } else { bail!("{version} does not hold: {}", failures.join("; ")) }
}

/// All rows of a fetched dataset's training shards with their rewards.
fn rows(folder: &Path) -> anyhow::Result<(Vec<Example>, Vec<f64>)> {
    let mut shards: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    shards.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("train-")));
    shards.sort();
    let (mut examples, mut rewards) = (vec![], vec![]);
    for shard in &shards {
        examples.extend(read_examples(shard, &Columns::detect(shard)?, None)?);
        rewards.extend(read_rewards(shard)?);
    }
    Ok((examples, rewards))
}

fn verification(
    spec: &Spec,
    devices: &[Device],
    examples: &[Example],
    rewards: &[f64],
    seeds: usize,
    stop: &Stop,
) -> anyhow::Result<Verification> {
    let target = Target::load(spec, DType::F32, devices)?;
    let source = Source::load(spec, devices)?;
    let metric = target.metric(spec)?;
    let metric = metric.as_ref();
    let cancelled = || stop.is_set();
    // a control draw keeps no state
    let folder = Path::new("");
    let run = Run { spec, target: &target, source: &source, metric, folder, cancelled: &cancelled };
    let untrained = |examples, seed| run.control_draw(examples, seed);
    Ok(dpg_engine::verify(&target, metric, examples, rewards, &untrained, seeds, &cancelled)?)
}

fn text(version: &str, verification: &Verification) -> String {
    let line = |name: &str, arm: &Arm| {
        let proxies = arm.proxies.iter().map(|(name, value)| format!("  {name} {value:.4}"));
        let proxies: String = proxies.collect();
        format!("{name:24} {:>7} {:>12.6} +- {:.6}{proxies}\n", arm.rows, arm.mean, arm.margin)
    };
    let mut text = format!(
        "{version}, fresh targets under {} data orders\n\n{:24} {:>7} {:>12} (95%)\n",
        verification.dataset.phi.len(),
        "fine-tuned on",
        "rows",
        "Phi"
    );
    text += &format!("{:24} {:>7} {:>12.6}\n", "nothing", 0, verification.untrained_target);
    text += &line("the dataset", &verification.dataset);
    text += &line("the untrained generator's", &verification.untrained_generator);
    text += &line("its best tenth by reward", &verification.top_tenth);
    text += &line("a random tenth", &verification.random_tenth);
    text += &line("its worst tenth", &verification.bottom_tenth);
    if verification.holds() {
        text += "\nit does what it was made for, and its rewards tell its rows apart";
    }
    text
}
