//! `dpg score`: metagradient rewards of an existing dataset.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::{DType, Tensor};
use clap::{Args, ValueEnum};
use dpg_dataset::{Columns, Layout, is_scored, read_examples, scored_ids, write_scored};
use dpg_engine::{Draw, Problem, mean_and_deviation};
use dpg_metagrad::metrics::Picture;
use serde_json::json;

use crate::commands::{Input, Programs, check_standard_input, load_spec, show};
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::resolve::resolve;
use crate::settings::data_dir::DataDir;
use crate::terminal::console::note;
use crate::terminal::output::{Output, check_pictures, write_picture};
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;

/// What `dpg score` reads and writes.
#[derive(Debug, Args)]
pub(crate) struct ScoreArguments {
    /// The target spec; `[target]` and `[metric]` are enough. `-` reads it from standard input.
    spec: PathBuf,
    /// The dataset: JSON or Parquet with `prompt` and `completion` (of text or turns), `messages`, or `text`.
    /// `-` reads it from standard input.
    #[arg(long)]
    data: PathBuf,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
    /// Floating-point type of the computation.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Where the rows go with their rewards and all their columns: JSONL if it ends in `.jsonl` or `.ndjson`,
    /// else Parquet. A column `reward` or `example_id` of the dataset becomes `input_reward` or
    /// `input_example_id`.
    #[arg(long)]
    out: PathBuf,
    /// Write a column `token_rewards` as well: a list for each row, aligned with the tokens that the target reads of it,
    /// whose sum is the row's reward.
    #[arg(long)]
    per_token: bool,
    /// Write a column `query_rewards` as well: a list for each row, a reward by each row of the metric's data alone, whose
    /// mean is the row's reward. Each takes as long as the rewards themselves.
    #[arg(long)]
    per_query: bool,
    /// Replace files that are there and that `dpg score` did not write.
    #[arg(long)]
    overwrite: bool,
    /// Folder for PNGs of a `weight_pattern`: the target, what was decoded, and the margins.
    #[arg(long)]
    pictures: Option<PathBuf>,
    #[command(flatten)]
    programs: Programs,
}

/// Floating-point types of a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl From<Dtype> for burn::tensor::DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
        }
    }
}

/// Scores a dataset and writes the rewards.
pub(crate) async fn score(data: &DataDir, arguments: ScoreArguments, as_json: bool) -> anyhow::Result<()> {
    let ScoreArguments {
        spec,
        data: file,
        device,
        dtype,
        out,
        per_token,
        per_query,
        overwrite,
        pictures,
        programs,
    } = arguments;
    check_standard_input(&[&spec, &file])?;
    let devices = dpg_models::device::parse(&device)?;
    let mut local = resolve(load_spec(&spec, &programs, data)?, &data.hub()?).await?.local;
    let input = Input::open(&file)?;
    let named = local.locations().into_iter().map(|location| PathBuf::from(location.uri.as_str()));
    let inputs: Vec<_> = named.chain([spec, input.path.clone()]).collect();
    let output = Output::new(&out, "--out", &inputs, overwrite, is_scored)?;
    if let Some(folder) = &pictures {
        check_pictures(folder, overwrite)?;
    }
    let stop = Stop::listen()?;
    let path = out.clone();
    let (rewards, score, trust, renamed) = compute(move || {
        let watch = Watch::new(stop);
        let cancelled = || watch.pass();
        let data = &input.path;
        let examples = read_examples(data, &Columns::detect(data)?, None)?;
        let problem = Problem::to_score(&local, DType::from(dtype), &devices)?;
        let target = &problem.target;
        let passes = target.passes(examples.len());
        let queries = if per_query { problem.metric.rows().len() } else { 0 };
        watch.begin(format!("scoring {} examples", examples.len()), (2 + queries) * passes);
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let mut drawn = vec![];
        let show = |theta: &Tensor<1>| {
            if pictures.is_some() {
                drawn = problem.metric.pictures(theta);
            }
        };
        let scorer = problem.scorer(folder.path(), &cancelled);
        let mut lists = vec![];
        let scored = if per_token {
            scorer.score_tokens(&examples, Draw::FIRST, show).map(|(scored, tokens)| {
                lists.push(("token_rewards", tokens));
                scored
            })
        } else {
            scorer.score_showing(&examples, Draw::FIRST, show)
        };
        let scored = scored.map_err(|error| error.in_file(data))?;
        if per_query {
            lists.push(("query_rewards", scorer.query_rewards(&examples, Draw::FIRST)?));
        }
        let ids = scored_ids(&examples, &scored.rewards)?;
        let renamed = output.write(|file| {
            let (layout, rewards) = (Layout::of(&path), &scored.rewards);
            Ok(write_scored(data, (file, &path), layout, &ids, rewards, &lists)?)
        })?;
        if let Some(folder) = pictures {
            write_pictures(&folder, &drawn)?;
        }
        watch.begin("checking the rewards", target.passes(examples.len().min(target.sft.batch_size)));
        let trust = problem.trust(&examples, &cancelled)?;
        Ok((scored.rewards, scored.score, trust, renamed))
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
        "rounding": trust.rounding,
        "warnings": trust.warnings,
    });
    show(as_json, &value, || {
        let deviation =
            deviation.map_or("undefined (one example)".into(), |deviation| format!("{deviation:.3e}"));
        let rounding = trust.rounding.map_or_else(String::new, |off| {
            format!("\nsingle precision puts rewards off by {off:.1e}, against double, on the first rows")
        });
        let warnings: String = trust.warnings.iter().map(|warning| format!("\nWARNING: {warning}")).collect();
        format!(
            "{} examples: Phi {:.6} after fine-tuning, rewards {mean:.3e} +- {deviation}, written to {}{rounding}{warnings}",
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
