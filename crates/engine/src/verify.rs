//! Whether a published dataset does to a fresh target what it was made for, beside controls.
//!
//! Every arm fine-tunes the target anew with the spec's recipe, under several data orders.

use dpg_dataset::Example;
use dpg_metagrad::Metric;
use dpg_models::keyed_rng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::{Error, Target, measure};

/// Draws of verification are numbered from here, apart from those of runs.
const VERIFICATION: u64 = 1 << 34;

/// The dataset and its controls.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The target as it is.
    pub untrained_target: f64,
    /// The dataset as published.
    pub dataset: Arm,
    /// As many examples of the untrained generator.
    pub untrained_generator: Arm,
    /// The tenth of the dataset with the largest rewards.
    pub top_tenth: Arm,
    /// As many rows at random.
    pub random_tenth: Arm,
    /// The tenth with the smallest rewards.
    pub bottom_tenth: Arm,
}

/// What one dataset reaches under each data order.
#[derive(Clone, Debug, Serialize)]
pub struct Arm {
    /// Examples.
    pub rows: usize,
    /// Phi, one a data order.
    pub phi: Vec<f64>,
    /// Means of the human proxies.
    pub proxies: Vec<(String, f64)>,
    /// Mean of Phi.
    pub mean: f64,
    /// Half the width of its 95% confidence interval (Student's t).
    pub margin: f64,
}

impl Arm {
    /// Better with intervals that do not touch.
    fn beats(&self, other: &Self) -> bool {
        self.mean - self.margin > other.mean + other.margin
    }
}

impl Verification {
    /// The dataset beats an untrained target and the untrained generator's examples, and its
    /// rewards tell its better rows from its worse.
    pub fn holds(&self) -> bool {
        self.failures().is_empty()
    }

    /// What does not hold, in words.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = vec![];
        let mut require = |holds: bool, what: &str| {
            if !holds {
                failures.push(what.to_owned());
            }
        };
        require(
            self.dataset.mean - self.dataset.margin > self.untrained_target,
            "the dataset is no better than no training",
        );
        require(
            self.dataset.beats(&self.untrained_generator),
            "the dataset is no better than what the untrained generator writes",
        );
        require(
            self.top_tenth.beats(&self.random_tenth),
            "the rows with the largest rewards are no better than random ones",
        );
        require(
            self.random_tenth.beats(&self.bottom_tenth),
            "the rows with the smallest rewards are no worse than random ones",
        );
        failures
    }
}

/// Fine-tunes fresh targets on the dataset and its controls under `seeds` data orders each.
///
/// `untrained` draws as many examples as asked for from the untrained generator, others for every
/// repetition.
pub fn verify(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    rewards: &[f64],
    untrained: &dyn Fn(usize, u64) -> Result<Vec<Example>, Error>,
    seeds: usize,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Verification, Error> {
    let arm = |rows: usize, of_seed: &dyn Fn(u64) -> Result<Vec<Example>, Error>| {
        let mut scores = Vec::with_capacity(seeds);
        for seed in 0..seeds as u64 {
            // even where a recipe keeps file order, a data order is what a seed stands for
            let mut examples = of_seed(seed)?;
            examples.shuffle(&mut keyed_rng([VERIFICATION, seed, 0, u64::from_le_bytes(*b"verify  ")]));
            scores.push(measure(target, metric, &examples, VERIFICATION + seed, cancelled)?.0);
        }
        let phi: Vec<f64> = scores.iter().map(|score| score.value).collect();
        let n = scores.len() as f64;
        let proxies = scores[0].proxies.iter().enumerate().map(|(i, (name, _))| {
            (name.clone(), scores.iter().map(|score| score.proxies[i].1).sum::<f64>() / n)
        });
        let (mean, margin) = interval(&phi);
        Ok::<_, Error>(Arm { rows, proxies: proxies.collect(), phi, mean, margin })
    };
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by(|&a, &b| rewards[b].total_cmp(&rewards[a]));
    let tenth = (examples.len() / 10).max(1);
    let rows = |indices: &[usize]| indices.iter().map(|&index| examples[index].clone()).collect::<Vec<_>>();
    let random = |seed: u64| {
        let mut shuffled = order.clone();
        shuffled.shuffle(&mut keyed_rng([VERIFICATION, seed, 1, u64::from_le_bytes(*b"verify  ")]));
        Ok(rows(&shuffled[..tenth]))
    };
    Ok(Verification {
        untrained_target: metric.score(&target.model.theta)?.value,
        dataset: arm(examples.len(), &|_| Ok(examples.to_vec()))?,
        untrained_generator: arm(examples.len(), &|seed| untrained(examples.len(), seed))?,
        top_tenth: arm(tenth, &|_| Ok(rows(&order[..tenth])))?,
        random_tenth: arm(tenth, &random)?,
        bottom_tenth: arm(tenth, &|_| Ok(rows(&order[order.len() - tenth..])))?,
    })
}

/// Mean and half the width of its 95% confidence interval.
fn interval(values: &[f64]) -> (f64, f64) {
    /// Quantiles 0.975 of Student's t for 1, 2, ... degrees of freedom.
    const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T.get(values.len() - 2).copied().unwrap_or(2.228);
    (mean, t * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn intervals_are_those_of_students_t() {
        let (mean, margin) = interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(mean, 3.0);
        assert!((margin - 2.776 * (2.5f64 / 5.0).sqrt()).abs() < 1e-12);
    }
}
