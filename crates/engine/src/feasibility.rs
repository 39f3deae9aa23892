//! What any generator that writes the same texts could reach: the examples' weights themselves are
//! optimised by their metagradients, without a policy between.
//!
//! If no weights of a draw reach the goal, no amount of training will before the generator writes
//! other texts: the target, the patch or the recipe is what to change.

use dpg_dataset::Example;
use dpg_metagrad::{Score, Storage, metagradient};

use crate::{Draw, Error, Scorer, mean_and_deviation};

/// Step of the logarithms of the weights, in standard deviations of the rewards.
const RATE: f64 = 0.3;

impl Scorer<'_> {
    /// Scores after each of `rounds` steps of exponentiated gradient ascent on the weights of
    /// `examples`, their mean held at 1; the first is that of equal weights.
    pub fn reweigh(&self, examples: &[Example], rounds: usize) -> Result<Vec<Score>, Error> {
        let (encoded, _) = self.trainable(examples)?;
        let batches = self.target.batches(&encoded, Draw::FIRST);
        let mut logarithms = vec![0.0; encoded.len()];
        let mut scores = vec![];
        for _ in 0..=rounds {
            let weights = normalised(&logarithms);
            let sft = self.target.sft(&encoded, &weights, &batches, self.stop);
            let run = metagradient(sft, self.metric, &Storage::fitting(&sft, self.scratch))?;
            scores.push(run.score);
            let (mean, spread) = mean_and_deviation(&run.rewards);
            for (logarithm, reward) in logarithms.iter_mut().zip(&run.rewards) {
                *logarithm += RATE * (reward - mean) / spread.max(f64::MIN_POSITIVE);
            }
        }
        Ok(scores)
    }
}

/// Exponentials with mean 1.
fn normalised(logarithms: &[f64]) -> Vec<f64> {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logarithms.iter().map(|logarithm| (logarithm - largest).exp()).collect();
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    weights.into_iter().map(|weight| weight / mean).collect()
}
