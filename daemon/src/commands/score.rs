//! `dpg score`: metagradient rewards of an existing dataset.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::{DType, Tensor};
use dpg_dataset::{Columns, Layout, is_scored, read_examples, scored_ids, write_scored};
use dpg_engine::{Target, doubts, mean_and_deviation, score_showing};
use dpg_metagrad::metrics::Picture;
use serde_json::json;

use crate::cli::ScoreArguments;
use crate::commands::{Input, check_standard_input, load_spec, show};
use crate::pipeline::compute::compute;
use crate::pipeline::resolve::resolve;
use crate::settings::data_dir::DataDir;
use crate::terminal::console::note;
use crate::terminal::output::{Output, check_pictures, write_picture};
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;

/// Scores a dataset and writes the rewards.
pub(crate) async fn score(data: &DataDir, arguments: ScoreArguments, as_json: bool) -> anyhow::Result<()> {
    let ScoreArguments { spec, data: file, device, dtype, out, overwrite, pictures } = arguments;
    check_standard_input(&[&spec, &file])?;
    let devices = dpg_models::device::parse(&device)?;
    let mut local = resolve(load_spec(&spec)?, &data.hub()?).await?.local;
    let input = Input::open(&file)?;
    let named = local.locations().into_iter().map(|location| PathBuf::from(location.uri.as_str()));
    let inputs: Vec<_> = named.chain([spec, input.path.clone()]).collect();
    let output = Output::new(&out, "--out", &inputs, overwrite, is_scored)?;
    if let Some(folder) = &pictures {
        check_pictures(folder, overwrite)?;
    }
    let stop = Stop::listen()?;
    let path = out.clone();
    let (rewards, score, warnings, renamed) = compute(move || {
        let watch = Watch::new(stop);
        let cancelled = || watch.pass();
        let data = &input.path;
        let examples = read_examples(data, &Columns::detect(data)?, None)?;
        let target = Target::load(&local, DType::from(dtype), &devices)?;
        let metric = target.metric(&local)?;
        let passes = target.passes(examples.len());
        watch.begin(format!("scoring {} examples", examples.len()), 2 * passes);
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mut drawn = vec![];
        let show = |theta: &Tensor<1>| {
            if pictures.is_some() {
                drawn = metric.pictures(theta);
            }
        };
        let folder = folder.path();
        let scored = score_showing(&target, metric.as_ref(), &examples, 0, folder, &cancelled, show)
            .map_err(|error| error.in_file(data))?;
        let ids = scored_ids(&examples, &scored.rewards)?;
        let renamed = output
            .write(|file| Ok(write_scored(data, (file, &path), Layout::of(&path), &ids, &scored.rewards)?))?;
        if let Some(folder) = pictures {
            write_pictures(&folder, &drawn)?;
        }
        watch.begin("checking the rewards", target.passes(examples.len().min(target.sft.batch_size)));
        let warnings = doubts(&local, &target, metric.as_ref(), &examples, &devices, &cancelled)?;
        Ok((scored.rewards, scored.score, warnings, renamed))
    })
    .await?;
    if let Some((first, others)) = rewards.split_first()
        && !others.is_empty()
        && others.iter().all(|reward| reward == first)
    {
        note(format_args!(
            "warning: all {} rewards equal {first:e}, so they tell no row from another",
            rewards.len()
        ));
    }
    for column in renamed {
        note(format_args!(
            "note: the dataset's own column `{column}` is `input_{column}` in `{}`",
            out.display()
        ));
    }
    let (mean, deviation) = mean_and_deviation(&rewards);
    // one value has no spread
    let deviation = (rewards.len() > 1).then_some(deviation);
    let value = json!({
        "examples": rewards.len(),
        "phi": score.value,
        "proxies": score.proxies,
        "reward_mean": mean,
        "reward_std": deviation,
        "out": out,
        "warnings": warnings,
    });
    show(as_json, &value, || {
        let deviation =
            deviation.map_or("undefined (one example)".into(), |deviation| format!("{deviation:.3e}"));
        let warnings: String = warnings.iter().map(|warning| format!("\nWARNING: {warning}")).collect();
        format!(
            "{} examples: Phi {:.6} after fine-tuning, rewards {mean:.3e} +- {deviation}, written to {}{warnings}",
            rewards.len(),
            score.value,
            out.display()
        )
    });
    Ok(())
}

fn write_pictures(folder: &Path, pictures: &[Picture]) -> anyhow::Result<()> {
    if pictures.is_empty() {
        bail!("the metric has no pictures; leave `--pictures` out, or use a `weight_pattern`");
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    for picture in pictures {
        let path = folder.join(format!("{}.png", picture.name));
        write_picture(&path, &picture.png)?;
    }
    Ok(())
}
