//! The pre-flight check: do the rewards tell what to train on from what not to?

use dpg_dataset::Example;
use dpg_metagrad::metrics::{EFFECTIVE_STRENGTH, Score};
use serde::Serialize;

use crate::{Draw, Error, Scorer, trust::Saturation};

/// What the check found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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
    /// Root mean square of the first step's gradient, each weight counting by |dPhi/dtheta|.
    pub gradient: f64,
    /// The same over `sqrt(eps_root) + eps`, for Adam. Its step g / (sqrt(g^2 + eps_root) + eps) has a
    /// derivative in g that vanishes where this is large.
    pub saturation: Option<f64>,
    /// Of a metric with a `strength`: that times the median change after the better half.
    pub effective_strength: Option<f64>,
}

/// Below this a soft-plus is a straight line.
const CURVED: f64 = 0.1;

impl Signal {
    /// Rewards point the right way.
    pub fn separates(&self) -> bool {
        const CLEAR: f64 = 0.8;
        self.better_half > self.worse_half && self.separability.is_none_or(|area| area > CLEAR)
    }

    /// What is wrong and what to do about it, if anything is.
    pub fn advice(&self) -> Option<String> {
        let saturated = Saturation { gradient: self.gradient, ratio: self.saturation }.advice();
        let straight = self.effective_strength.filter(|&strength| strength < CURVED).map(|strength| {
            format!(
                "`strength` times the median pixel's change is {strength:.1e}, where the metric is a straight line and its \
                 largest changes alone count; multiply `strength` by about {:.0e}",
                1.0 / strength.max(f64::MIN_POSITIVE)
            )
        });
        let causes: Vec<String> = [saturated, straight].into_iter().flatten().collect();
        if !causes.is_empty() {
            return Some(causes.join("; and "));
        }
        (!self.separates()).then(|| {
            "the rewards do not tell good examples from bad ones; lower the inner learning rate or raise eps_root \
             until they do"
                .into()
        })
    }
}

impl Scorer<'_> {
    /// Fine-tunes on the halves that rewards make of the examples, and scores examples among `helpful` ones: half of
    /// each, so that it takes no more than scoring the examples did.
    pub fn signal(
        &self,
        examples: &[Example],
        helpful: &[Example],
        rewards: &[f64],
    ) -> Result<Signal, Error> {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by(|&a, &b| rewards[b].total_cmp(&rewards[a]));
        let (better, worse) = order.split_at(examples.len() / 2);
        let after = |half: &[usize]| -> Result<Score, Error> {
            let half: Vec<Example> = half.iter().map(|&index| examples[index].clone()).collect();
            Ok(self.measure(&half, Draw::FIRST)?.0)
        };
        let helpful = &helpful[..helpful.len().min(examples.len() / 2)];
        let separability = if helpful.is_empty() {
            None
        } else {
            let others = &examples[..examples.len() - helpful.len()];
            let scored = self.score(&[helpful, others].concat(), Draw::FIRST)?;
            let (good, other) = scored.rewards.split_at(helpful.len());
            Some(area_under_curve(good, other))
        };
        let (Saturation { gradient, ratio: saturation }, untrained) = self.saturation(examples)?;
        let better = after(better)?;
        let strength = better.proxies.iter().find(|(name, _)| name.ends_with(EFFECTIVE_STRENGTH));
        Ok(Signal {
            better_half: better.value,
            worse_half: after(worse)?.value,
            untrained: untrained.value,
            separability,
            gradient,
            saturation,
            effective_strength: strength.map(|(_, strength)| *strength),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_under_curve_counts_pairs() {
        assert_eq!(area_under_curve(&[3.0, 4.0], &[1.0, 2.0]), 1.0);
        assert_eq!(area_under_curve(&[1.0, 2.0], &[3.0, 2.0]), 0.125);
    }

    #[test]
    fn advice_is_given_where_it_is_needed() {
        let sound = Signal {
            better_half: 1.0,
            worse_half: 0.0,
            untrained: 0.0,
            separability: Some(0.9),
            gradient: 1e-3,
            saturation: Some(1.0),
            effective_strength: Some(1.0),
        };
        assert_eq!(sound.advice(), None);
        let straight = Signal { effective_strength: Some(2e-4), ..sound };
        assert!(straight.advice().unwrap().ends_with("multiply `strength` by about 5e3"));
        let saturated = Signal { saturation: Some(100.0), ..sound };
        assert!(saturated.advice().unwrap().contains("raise eps_root to about 1e-6"));
        let both = Signal { saturation: Some(100.0), ..straight }.advice().unwrap();
        assert!(both.contains("raise eps_root") && both.contains("; and `strength`"), "{both}");
        assert!(Signal { separability: Some(0.6), ..sound }.advice().unwrap().contains("learning rate"));
        assert!(Signal { worse_half: 2.0, ..sound }.advice().unwrap().contains("learning rate"));
    }
}
