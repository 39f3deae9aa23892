//! What any generator that writes the same texts could reach: the examples' weights themselves are
//! optimised by their metagradients, without a policy between.
//!
//! If no weights of a draw reach the goal, no amount of training will before the generator writes
//! other texts: the target, the patch or the recipe is what to change.

use std::path::Path;

use dpg_dataset::Example;
use dpg_metagrad::{Metric, Score, Storage, metagradient};

use crate::{Error, Target, mean_and_deviation, rollouts::trainable};

/// Step of the logarithms of the weights, in standard deviations of the rewards.
const RATE: f64 = 0.3;

/// Scores after each of `rounds` steps of exponentiated gradient ascent on the weights of
/// `examples`, their mean held at 1; the first is that of equal weights. `folder` takes states that
/// do not fit in memory.
pub fn reweigh(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    rounds: usize,
    folder: &Path,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Score>, Error> {
    let (encoded, _) = trainable(target, examples)?;
    let batches = target.batches(&(0..encoded.len()).collect::<Vec<_>>(), 0);
    let mut logarithms = vec![0.0; encoded.len()];
    let mut scores = vec![];
    for _ in 0..=rounds {
        let weights = normalised(&logarithms);
        let sft = target.sft(&encoded, &weights, &batches, cancelled);
        let run = metagradient(sft, metric, &Storage::fitting(&sft, folder))?;
        scores.push(run.score);
        let (mean, spread) = mean_and_deviation(&run.rewards);
        for (logarithm, reward) in logarithms.iter_mut().zip(&run.rewards) {
            *logarithm += RATE * (reward - mean) / spread.max(f64::MIN_POSITIVE);
        }
    }
    Ok(scores)
}

/// Exponentials with mean 1.
fn normalised(logarithms: &[f64]) -> Vec<f64> {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logarithms.iter().map(|logarithm| (logarithm - largest).exp()).collect();
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    weights.into_iter().map(|weight| weight / mean).collect()
}
