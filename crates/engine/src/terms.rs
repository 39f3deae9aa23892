//! What rollouts gain or lose beside their rewards: for being refused by the dataset's gates, and for their lengths.
//!
//! Both are in standard deviations of the step's rewards, whose scale is the metric's own (1e-9 is no rarity), so that a
//! rollout counts as r / sd - losses. Advantages are made of that.

use dpg_policy::mean_and_deviation;
use dpg_spec::{Length, Spec};

use crate::{
    Error, LengthRecord, Run,
    gates::{Gates, Refused},
    lengths,
    writer::Drawn,
};

/// What there is beside the rewards of a step's rollouts.
pub(crate) struct Terms {
    /// What each loses, in standard deviations of the rewards; nothing if no term is asked for.
    losses: Option<Vec<f64>>,
    /// Rollouts that gates refuse, by the reason, if that is a loss.
    pub(crate) refused: Refused,
    /// The classes of lengths in the step.
    pub(crate) lengths: Vec<LengthRecord>,
}

impl Run<'_> {
    /// The terms of a step's rollouts with these rewards, by the numbers of `spec`.
    pub(crate) fn terms(&self, spec: &Spec, drawn: &Drawn, rewards: &[f64]) -> Result<Terms, Error> {
        let mut terms = Terms { losses: None, refused: Refused::new(), lengths: vec![] };
        if spec.policy.refusal_penalty > 0.0 {
            let mut gates = Gates::open(&spec.output.gates, self.around())?;
            let rollouts = drawn.prompts.iter().zip(&drawn.completions);
            let taken = rollouts.map(|(prompt, completion)| self.takes(&mut gates, prompt, completion));
            let taken = taken.collect::<Result<Vec<_>, Error>>()?;
            terms
                .add(spec.policy.refusal_penalty, taken.into_iter().map(|taken| f64::from(u8::from(!taken))));
            terms.refused = gates.refused;
        }
        if let Some(length) = spec.output.length.as_ref().filter(|length| !length.classes().is_empty()) {
            self.add_lengths(length, drawn, rewards, &mut terms)?;
        }
        Ok(terms)
    }

    fn add_lengths(
        &self,
        length: &Length,
        drawn: &Drawn,
        rewards: &[f64],
        terms: &mut Terms,
    ) -> Result<(), Error> {
        let rows = drawn.prompts.iter().zip(&drawn.completions);
        let rows = rows.map(|(prompt, completion)| self.measure(prompt, completion));
        let rows = rows.collect::<Result<Vec<_>, Error>>()?;
        let wanted = lengths::wanted(length, &self.problem.writer()?.generator.about());
        terms.lengths = lengths::records(length, &wanted, &rows, rewards);
        if length.advantage > 0.0 {
            terms.add(length.advantage, lengths::losses(length, &rows, &drawn.completions).into_iter());
        }
        Ok(())
    }
}

impl Terms {
    fn add(&mut self, weight: f64, losses: impl Iterator<Item = f64>) {
        let losses = losses.map(|loss| weight * loss);
        self.losses = Some(match self.losses.take() {
            None => losses.collect(),
            Some(before) => before.into_iter().zip(losses).map(|(a, b)| a + b).collect(),
        });
    }

    /// What advantages are made of: the rewards, or what they are with the losses. Rewards that tell no rollout from
    /// another stay as they are, so that nothing is learnt from losses alone.
    pub(crate) fn shaped(&self, rewards: &[f64]) -> Vec<f64> {
        let (_, deviation) = mean_and_deviation(rewards);
        match &self.losses {
            Some(losses) if deviation > 0.0 => {
                rewards.iter().zip(losses).map(|(reward, loss)| reward / deviation - loss).collect()
            }
            _ => rewards.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_in_standard_deviations_and_rewards_alone_stay_as_they_are() {
        let rewards = [1e-9, 3e-9];
        let mut terms = Terms { losses: None, refused: Refused::new(), lengths: vec![] };
        assert_eq!(terms.shaped(&rewards), rewards);
        terms.add(2.0, [1.0, 0.0].into_iter());
        terms.add(1.0, [0.5, 0.5].into_iter());
        let shaped = terms.shaped(&rewards);
        assert!((shaped[0] + 1.5).abs() < 1e-12 && (shaped[1] - 2.5).abs() < 1e-12, "{shaped:?}");
        assert_eq!(terms.shaped(&[1.0, 1.0]), [1.0, 1.0]);
    }
}
