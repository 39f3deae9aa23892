//! How far rewards can be trusted: against finite differences, leaving out, and retraining on halves.

use std::path::Path;

use dpg_dataset::Example;
use dpg_metagrad::{Metric, Storage, metagradient};
use dpg_models::keyed_rng;
use rand::RngExt;
use serde::Serialize;

use crate::{Error, Target, precision::relative_distance};

/// Rewards of some examples beside what they estimate.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// The examples compared.
    pub examples: Vec<Audited>,
    /// Relative l2 distance of rewards and central finite differences: near 0 if rewards are exact.
    pub finite_difference_error: f64,
    /// Relative l2 distance of rewards and the effect of leaving the example out: how linear the
    /// metric is in one example's weight.
    pub leave_one_out_error: f64,
    /// Spearman correlation of rewards and the effects of leaving out.
    pub leave_one_out_rank_correlation: f64,
    /// Metasmoothness (Engstrom et al., 2025), in [-1, 1]: agreement in sign of the one-sided
    /// differences at half a weight below and above, weighted by their sizes; 1 is smooth.
    pub metasmoothness: f64,
    /// Linear datamodelling score (Park et al., 2023): Spearman correlation, over random halves of
    /// the dataset, of Phi after training on the half with the sum of its examples' rewards.
    pub linear_datamodelling_score: f64,
}

/// One example of an audit.
#[derive(Clone, Debug, Serialize)]
pub struct Audited {
    /// Its position in the dataset.
    pub index: usize,
    /// dPhi/dw_i.
    pub reward: f64,
    /// (Phi(w_i + h) - Phi(w_i - h)) / 2h.
    pub finite_difference: f64,
    /// Phi(1) - Phi(w_i = 0).
    pub leave_one_out: f64,
}

/// Step of the central difference in a weight; its error is of order h^2, rounding 1e-16 / h.
const H: f64 = 1e-3;

/// Random halves that the linear datamodelling score is taken over.
const HALVES: u64 = 32;

/// Audits about `count` examples, evenly spaced, and the dataset as a whole. Load the target in f64: differences this small
/// drown in single precision.
pub fn audit(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    count: usize,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Audit, Error> {
    let encoded: Vec<_> = target.encode(examples)?;
    let batches = target.batches(&(0..encoded.len()).collect::<Vec<_>>(), 0);
    let ones = vec![1.0; encoded.len()];
    let run = metagradient(target.sft(&encoded, &ones, &batches, cancelled), metric, &Storage::default())?;
    let trained = |weights: &[f64]| -> Result<f64, Error> {
        let theta = target.sft(&encoded, weights, &batches, cancelled).train()?;
        Ok(metric.score(&theta)?.value)
    };
    let phi = |index: usize, weight: f64| {
        let mut weights = ones.clone();
        weights[index] = weight;
        trained(&weights)
    };
    let stride = encoded.len().div_ceil(count.max(1)).max(1);
    let mut audited = vec![];
    let (mut agreement, mut size) = (0.0, 0.0);
    for index in (0..encoded.len()).step_by(stride) {
        let (below, above) = (run.score.value - phi(index, 0.5)?, phi(index, 1.5)? - run.score.value);
        agreement += below.signum() * above.signum() * (below.abs() + above.abs());
        size += below.abs() + above.abs();
        audited.push(Audited {
            index,
            reward: run.rewards[index],
            finite_difference: (phi(index, 1.0 + H)? - phi(index, 1.0 - H)?) / (2.0 * H),
            leave_one_out: run.score.value - phi(index, 0.0)?,
        });
    }
    let (mut predicted, mut reached) = (vec![], vec![]);
    for half in 0..HALVES {
        let mut rng = keyed_rng([0, half, 0, u64::from_le_bytes(*b"halves  ")]);
        let weights: Vec<f64> = ones.iter().map(|_| f64::from(u8::from(rng.random_bool(0.5)))).collect();
        predicted.push(weights.iter().zip(&run.rewards).map(|(weight, reward)| weight * reward).sum());
        reached.push(trained(&weights)?);
    }
    let column = |value: fn(&Audited) -> f64| audited.iter().map(value).collect::<Vec<_>>();
    let rewards = column(|one| one.reward);
    let left_out = column(|one| one.leave_one_out);
    Ok(Audit {
        finite_difference_error: relative_distance(&rewards, &column(|one| one.finite_difference)),
        leave_one_out_error: relative_distance(&rewards, &left_out),
        leave_one_out_rank_correlation: rank_correlation(&rewards, &left_out),
        metasmoothness: if size > 0.0 { agreement / size } else { 1.0 },
        linear_datamodelling_score: rank_correlation(&predicted, &reached),
        examples: audited,
    })
}

/// The pre-flight signal check: do the rewards tell what to train on from what not to?
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Signal {
    /// Phi after fine-tuning on the better half of the examples by reward.
    pub better_half: f64,
    /// The same for the worse half.
    pub worse_half: f64,
    /// Phi of the target as it is.
    pub untrained: f64,
    /// Share of pairs in which an example known to help (a held-out text itself) has a larger reward
    /// than one of the generator's: the area under the ROC curve, 0.5 for chance. `None` where the
    /// metric names no such examples.
    pub separability: Option<f64>,
}

impl Signal {
    /// Rewards point the right way.
    pub fn separates(&self) -> bool {
        const CLEAR: f64 = 0.8;
        self.better_half > self.worse_half && self.separability.is_none_or(|area| area > CLEAR)
    }
}

/// Fine-tunes on the halves that rewards make of the examples, and scores the examples among
/// `helpful` ones.
pub fn signal(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    helpful: &[Example],
    rewards: &[f64],
    folder: &Path,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Signal, Error> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by(|&a, &b| rewards[b].total_cmp(&rewards[a]));
    let (better, worse) = order.split_at(examples.len() / 2);
    let phi = |half: &[usize]| -> Result<f64, Error> {
        let half: Vec<Example> = half.iter().map(|&index| examples[index].clone()).collect();
        Ok(crate::measure(target, metric, &half, 0, cancelled)?.0.value)
    };
    let separability = if helpful.is_empty() {
        None
    } else {
        let mixed: Vec<Example> = helpful.iter().chain(examples).cloned().collect();
        let scored = crate::score(target, metric, &mixed, 0, folder, cancelled)?;
        let (good, other) = scored.rewards.split_at(helpful.len());
        Some(area_under_curve(good, other))
    };
    Ok(Signal {
        better_half: phi(better)?,
        worse_half: phi(worse)?,
        untrained: metric.score(&target.model.theta)?.value,
        separability,
    })
}

/// Share of pairs in which the first kind is larger; ties count half.
fn area_under_curve(larger: &[f64], smaller: &[f64]) -> f64 {
    let wins = larger.iter().flat_map(|a| {
        smaller.iter().map(move |b| {
            if a > b {
                1.0
            } else if a < b {
                0.0
            } else {
                0.5
            }
        })
    });
    wins.sum::<f64>() / (larger.len() * smaller.len()) as f64
}

/// Spearman's rho, for values without ties.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let mut ranks = vec![0.0; values.len()];
        for (rank, index) in order.into_iter().enumerate() {
            ranks[index] = rank as f64;
        }
        ranks
    };
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 - 1.0) / 2.0;
    let product: f64 = a.iter().zip(&b).map(|(a, b)| (a - middle) * (b - middle)).sum();
    let square: f64 = a.iter().map(|a| (a - middle).powi(2)).sum();
    product / square
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_under_curve_counts_pairs() {
        assert_eq!(area_under_curve(&[3.0, 4.0], &[1.0, 2.0]), 1.0);
        assert_eq!(area_under_curve(&[1.0, 2.0], &[3.0, 2.0]), 0.125);
    }

    #[test]
    fn rank_correlation_sees_order_alone() {
        assert_eq!(rank_correlation(&[1.0, 2.0, 9.0], &[-5.0, 0.0, 0.1]), 1.0);
        assert_eq!(rank_correlation(&[1.0, 2.0, 9.0], &[3.0, 2.0, 1.0]), -1.0);
    }
}
