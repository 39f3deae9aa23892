//! `dpg score`: metagradient rewards of an existing dataset.

use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_dataset::{Columns, read_examples, write_scored};
use dpg_engine::Target;
use dpg_metagrad::Storage;
use serde_json::json;

use crate::{
    cli::Dtype,
    commands::{compute, show},
    data_dir::DataDir,
    resolve::resolve,
    stop::Stop,
};

/// Scores `file` and writes the rewards to `out`.
pub(crate) async fn score(
    data: &DataDir,
    spec: &Path,
    file: &Path,
    dtype: Dtype,
    out: &Path,
    as_json: bool,
) -> anyhow::Result<()> {
    let local = resolve(spec, &data.hub()?).await?.local;
    let stop = Stop::listen()?;
    let (file, out) = (file.to_path_buf(), out.to_path_buf());
    let target_file = out.clone();
    let (rewards, score) = compute(move || {
        let examples = read_examples(&file, &Columns::detect(&file)?, None)?;
        let target = Target::load(&local, DType::from(dtype), &Device::flex())?;
        let metric = target.metric(&local)?;
        let cancelled = || stop.is_set();
        let (rewards, score) =
            dpg_engine::score(&target, metric.as_ref(), &examples, 0, &Storage::default(), &cancelled)?;
        write_scored(&target_file, &examples, &rewards)?;
        Ok((rewards, score))
    })
    .await?;
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let deviation = (rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / n).sqrt();
    let value = json!({
        "examples": rewards.len(),
        "phi": score.value,
        "proxies": score.proxies,
        "reward_mean": mean,
        "reward_std": deviation,
        "out": out,
    });
    show(as_json, &value, || {
        format!(
            "{} examples: Phi {:.6} after fine-tuning, rewards {mean:.3e} +- {deviation:.3e}, written to {}",
            rewards.len(),
            score.value,
            out.display()
        )
    });
    Ok(())
}
