//! How far rewards can be trusted: against finite differences, leaving out, and retraining on subsets.

use dpg_dataset::Example;
use dpg_metagrad::{Storage, metagradient};
use serde::{Serialize, Serializer};

use crate::{Draw, Error, Scorer, precision::relative_distance, randomness, trust::TOLERABLE};

/// Rewards of some examples beside what they estimate.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// The examples compared.
    pub examples: Vec<Audited>,
    /// Relative l2 distance of rewards and central finite differences: near 0 if rewards are exact.
    pub finite_difference_error: Statistic,
    /// The same for random directions in the weights of all examples at once.
    pub directional_error: Statistic,
    /// Relative l2 distance of rewards and the effect of leaving the example out: how linear the
    /// metric is in one example's weight.
    pub leave_one_out_error: Statistic,
    /// Spearman correlation of rewards and the effects of leaving out.
    pub leave_one_out_rank_correlation: Statistic,
    /// Metasmoothness (Engstrom et al., 2025), in [-1, 1]: agreement in sign of the one-sided
    /// differences at half a weight below and above, weighted by their sizes; 1 is smooth.
    pub metasmoothness: Statistic,
    /// Linear datamodelling scores.
    pub linear_datamodelling: Vec<LinearDatamodelling>,
    /// What puts the rewards off, each with what to do about it.
    pub warnings: Vec<String>,
}

/// A number, or why there is none. In JSON the number, or null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// Its value.
    Value(f64),
    /// Why it has none.
    Undefined(&'static str),
}

impl Statistic {
    /// Its value, if it has one.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(value),
            Self::Undefined(_) => None,
        }
    }
}

impl Serialize for Statistic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

/// Linear datamodelling score (Park et al., 2023): Spearman correlation, over random subsets of the
/// dataset, of Phi after training on the subset with the sum of its examples' rewards.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LinearDatamodelling {
    /// Share of the examples in a subset.
    pub share: f64,
    /// The correlation.
    pub score: Statistic,
    /// Its 95% confidence interval, if it has one.
    pub interval: Option<[f64; 2]>,
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

/// How much of a dataset an audit tries out.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// Examples compared one by one, about, evenly spaced.
    pub examples: usize,
    /// Random subsets of each size trained on.
    pub subsets: usize,
    /// Their sizes as shares of the examples, in (0, 1): the smaller, the further from where rewards
    /// are the slope.
    pub shares: Vec<f64>,
}

impl Extent {
    /// Fine-tuning runs that an audit of `examples` examples takes; a walk back counts as one more.
    pub fn runs(&self, examples: usize) -> usize {
        const OF_EACH: usize = 5;
        let compared = examples.div_ceil(self.stride(examples));
        2 + OF_EACH * compared + 2 * DIRECTIONS as usize + self.subsets * self.shares.len()
    }

    fn stride(&self, examples: usize) -> usize {
        examples.div_ceil(self.examples.max(1)).max(1)
    }
}

/// Step of the central difference in a weight; its error is of order h^2, rounding 1e-16 / h.
const H: f64 = 1e-3;

/// Random directions that all rewards are compared along.
const DIRECTIONS: u64 = 4;

impl Scorer<'_> {
    /// Audits a dataset. Load the target in f64: differences this small drown in single precision.
    ///
    /// What is left out has weight 0 in the loss of its batch, which is what rewards are the first-order
    /// estimate of: batches keep their places and the mean its divisor.
    pub fn audit(&self, examples: &[Example], extent: Extent) -> Result<Audit, Error> {
        let Scorer { target, metric, stop, .. } = *self;
        let (encoded, places) = self.trainable(examples)?;
        let batches = target.batches(&encoded, Draw::FIRST);
        let ones = vec![1.0; encoded.len()];
        let run = metagradient(
            target.sft(&encoded, &ones, &batches, stop),
            metric,
            &Storage { scratch: self.scratch.into(), ..Storage::default() },
        )?;
        let trained = |weights: &[f64]| -> Result<f64, Error> {
            let theta = target.sft(&encoded, weights, &batches, stop).train()?;
            Ok(metric.score(&theta, self.context())?.value)
        };
        let along = |direction: &[f64], step: f64| {
            let weights: Vec<f64> = direction.iter().map(|slope| 1.0 + step * slope).collect();
            trained(&weights)
        };
        let inner = |weights: &[f64]| weights.iter().zip(&run.rewards).map(|(w, r)| w * r).sum::<f64>();
        let stride = extent.stride(encoded.len());
        let mut audited = vec![];
        let (mut agreement, mut size) = (0.0, 0.0);
        for index in (0..encoded.len()).step_by(stride) {
            let mut only = vec![0.0; encoded.len()];
            only[index] = 1.0;
            let (below, above) =
                (run.score.value - along(&only, -0.5)?, along(&only, 0.5)? - run.score.value);
            agreement += below.signum() * above.signum() * (below.abs() + above.abs());
            size += below.abs() + above.abs();
            audited.push(Audited {
                index: places[index],
                reward: run.rewards[index],
                finite_difference: (along(&only, H)? - along(&only, -H)?) / (2.0 * H),
                leave_one_out: run.score.value - along(&only, -1.0)?,
            });
        }
        let (mut slopes, mut differences) = (vec![], vec![]);
        for number in 0..DIRECTIONS {
            let direction = randomness::direction(ones.len(), number);
            slopes.push(inner(&direction));
            differences.push((along(&direction, H)? - along(&direction, -H)?) / (2.0 * H));
        }
        let mut linear_datamodelling = vec![];
        for &share in &extent.shares {
            let kept = ((encoded.len() as f64 * share).round() as usize).max(1);
            let (mut predicted, mut reached) = (vec![], vec![]);
            for subset in 0..extent.subsets as u64 {
                let weights = randomness::subset(encoded.len(), kept, subset);
                predicted.push(inner(&weights));
                reached.push(trained(&weights)?);
            }
            let score = rank_correlation(&predicted, &reached);
            let interval = score.value().map(|score| correlation_interval(score, predicted.len()));
            linear_datamodelling.push(LinearDatamodelling { share, score, interval });
        }
        let column = |value: fn(&Audited) -> f64| audited.iter().map(value).collect::<Vec<_>>();
        let rewards = column(|one| one.reward);
        let left_out = column(|one| one.leave_one_out);
        let finite_difference_error = error(&rewards, &column(|one| one.finite_difference));
        let directional_error = error(&slopes, &differences);
        let mut warnings = vec![];
        let off = [finite_difference_error, directional_error].into_iter().filter_map(Statistic::value);
        let off = off.fold(0.0, f64::max);
        let saturated = self.saturation(examples)?.0.advice();
        if off > TOLERABLE {
            let remedy = saturated.clone().unwrap_or_else(|| {
                "the metric is not smooth at this recipe; lower the inner learning rate or raise eps_root"
                    .into()
            });
            warnings.push(format!("rewards are {:.0}% off from finite differences: {remedy}", 100.0 * off));
        } else {
            warnings.extend(saturated);
        }
        Ok(Audit {
            finite_difference_error,
            directional_error,
            leave_one_out_error: error(&rewards, &left_out),
            leave_one_out_rank_correlation: rank_correlation(&rewards, &left_out),
            metasmoothness: if size > 0.0 {
                Statistic::Value(agreement / size)
            } else {
                Statistic::Undefined("half a weight more or less changes nothing")
            },
            linear_datamodelling,
            examples: audited,
            warnings,
        })
    }
}

/// Relative l2 distance of estimates from what they estimate.
fn error(estimates: &[f64], measured: &[f64]) -> Statistic {
    if measured.iter().all(|&value| value == 0.0) {
        return Statistic::Undefined("all that was measured is 0");
    }
    Statistic::Value(relative_distance(estimates, measured))
}

/// Spearman's rho; values that tie share the mean of their ranks.
fn rank_correlation(a: &[f64], b: &[f64]) -> Statistic {
    if a.len() < 3 {
        return Statistic::Undefined("fewer than 3 pairs");
    }
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 - 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let size = (product(&a, &a) * product(&b, &b)).sqrt();
    if size > 0.0 {
        Statistic::Value(product(&a, &b) / size)
    } else {
        Statistic::Undefined("all values of one kind are the same")
    }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        for &index in tied {
            ranks[index] = first as f64 + (tied.len() as f64 - 1.0) / 2.0;
        }
        first += tied.len();
    }
    ranks
}

/// 95% confidence interval of a rank correlation of `n` pairs: Fisher's transformation with the
/// variance of Bonett and Wright (2000).
fn correlation_interval(correlation: f64, n: usize) -> [f64; 2] {
    if n < 4 || correlation.abs() >= 1.0 {
        return if n < 4 { [-1.0, 1.0] } else { [correlation; 2] };
    }
    let half = 1.96 * ((1.0 + correlation.powi(2) / 2.0) / (n as f64 - 3.0)).sqrt();
    [-half, half].map(|half| (correlation.atanh() + half).tanh())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_sees_order_alone() {
        assert_eq!(rank_correlation(&[1.0, 2.0, 9.0], &[-5.0, 0.0, 0.1]), Statistic::Value(1.0));
        assert_eq!(rank_correlation(&[1.0, 2.0, 9.0], &[3.0, 2.0, 1.0]), Statistic::Value(-1.0));
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 5.0]), [2.0, 0.0, 2.0, 2.0]);
    }

    #[test]
    fn what_has_no_value_is_null_and_says_why() {
        for (a, b) in [([1.0; 3].as_slice(), [3.0, 2.0, 1.0].as_slice()), (&[1.0, 2.0], &[1.0, 2.0])] {
            let undefined = rank_correlation(a, b);
            assert!(matches!(undefined, Statistic::Undefined(why) if !why.is_empty()), "{undefined:?}");
            assert_eq!(serde_json::to_value(undefined).unwrap(), serde_json::Value::Null);
        }
        assert_eq!(error(&[0.0, 0.0], &[0.0, 0.0]).value(), None);
        assert_eq!(serde_json::to_value(error(&[1.0, 0.0], &[2.0, 0.0])).unwrap(), 0.5);
    }

    #[test]
    fn an_interval_of_a_correlation_narrows_with_pairs() {
        let [low, high] = correlation_interval(0.95, 32);
        assert!(0.88 < low && low < 0.9 && 0.97 < high && high < 0.98, "[{low}, {high}]");
        let [closer, _] = correlation_interval(0.95, 200);
        assert!(low < closer && closer < 0.95);
        assert_eq!(correlation_interval(0.9, 3), [-1.0, 1.0]);
    }
}
