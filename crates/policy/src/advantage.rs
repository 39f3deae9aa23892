//! From rewards to advantages.

use dpg_spec::Advantage;

use crate::Error;

/// A standard deviation this much smaller than the spread of the whole step counts as zero: the
/// members of such a group said the same.
const RELATIVE_EPS: f64 = 1e-3;

/// Advantages of a step's rewards, group after group of `group_size`, cut to `clip` if above 0.
pub fn advantages(rewards: &[f64], group_size: usize, kind: Advantage, clip: f64) -> Result<Vec<f64>, Error> {
    if let Some(index) = rewards.iter().position(|reward| !reward.is_finite()) {
        return Err(Error::RewardNotFinite { index, value: rewards[index] });
    }
    if rewards.iter().all(|&reward| reward == rewards[0]) {
        return Err(Error::NoSignal { count: rewards.len(), value: rewards.first().copied().unwrap_or(0.0) });
    }
    let spread = deviation(rewards);
    let eps = RELATIVE_EPS * spread;
    let centred = |group: &[f64]| {
        let mean = mean(group);
        group.iter().map(|reward| reward - mean).collect::<Vec<_>>()
    };
    let groups = rewards.chunks(group_size);
    let raw: Vec<f64> = match kind {
        Advantage::Group => groups
            .flat_map(|group| {
                let scale = 1.0 / (deviation(group) + eps);
                centred(group).into_iter().map(move |reward| reward * scale)
            })
            .collect(),
        Advantage::GroupMean => {
            let centred: Vec<f64> = groups.flat_map(centred).collect();
            let scale = 1.0 / (deviation(&centred) + eps);
            centred.into_iter().map(|reward| reward * scale).collect()
        }
        Advantage::Global => centred(rewards).into_iter().map(|reward| reward / (spread + eps)).collect(),
    };
    if raw.iter().all(|&advantage| advantage == 0.0) {
        return Err(Error::NoSignal { count: rewards.len(), value: rewards[0] });
    }
    let bound = if clip > 0.0 { clip } else { f64::INFINITY };
    Ok(raw.into_iter().map(|advantage| advantage.clamp(-bound, bound)).collect())
}

/// Mean and standard deviation of values as they are, not of a population that they are drawn from.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt())
}

fn mean(values: &[f64]) -> f64 {
    mean_and_deviation(values).0
}

fn deviation(values: &[f64]) -> f64 {
    mean_and_deviation(values).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_of_the_rewards_does_not_matter() {
        let rewards = [1.0, 2.0, 4.0, 7.0, 1.0, 1.0, 1.0, 3.0];
        for kind in [Advantage::Group, Advantage::GroupMean, Advantage::Global] {
            let plain = advantages(&rewards, 4, kind, 0.0).unwrap();
            let tiny: Vec<f64> = rewards.iter().map(|reward| reward * 1e-12).collect();
            for (a, b) in plain.iter().zip(advantages(&tiny, 4, kind, 0.0).unwrap()) {
                assert!((a - b).abs() < 1e-9, "{kind:?}: {a} {b}");
            }
            let variance = plain.iter().map(|a| a * a).sum::<f64>() / 8.0;
            assert!((variance - 1.0).abs() < 0.01, "{kind:?}: {variance}");
        }
    }

    #[test]
    fn group_means_are_zero_and_equal_groups_say_nothing() {
        let a = advantages(&[1.0, 3.0, 5.0, 5.0], 2, Advantage::Group, 0.0).unwrap();
        assert!(a[0] < -0.9 && a[1] > 0.9 && a[2] == 0.0 && a[3] == 0.0, "{a:?}");
    }

    #[test]
    fn outliers_are_cut() {
        let mut rewards = vec![0.0; 64];
        rewards[3] = 1.0;
        let a = advantages(&rewards, 4, Advantage::Global, 2.0).unwrap();
        assert_eq!(a.iter().copied().fold(f64::MIN, f64::max), 2.0);
    }

    #[test]
    fn no_reward_is_made_up() {
        assert!(matches!(
            advantages(&[1.0, f64::NAN], 2, Advantage::Group, 0.0),
            Err(Error::RewardNotFinite { index: 1, .. })
        ));
        assert!(matches!(
            advantages(&[2.0; 8], 4, Advantage::Group, 0.0),
            Err(Error::NoSignal { count: 8, .. })
        ));
        // every group agrees with itself: no advantage anywhere
        assert!(matches!(
            advantages(&[1.0, 1.0, 2.0, 2.0], 2, Advantage::GroupMean, 0.0),
            Err(Error::NoSignal { .. })
        ));
    }
}
