//! Phi on fresh generations from the prompts kept aside.

use crate::{Draw, Error, Event, Outputs, Run, ValidationRecord, state::RunState};

/// Generations that a record keeps.
const SAMPLES: usize = 5;

impl Run<'_> {
    /// Validates, if this step is due for it.
    pub(crate) fn validate(
        &self,
        outputs: &Outputs,
        state: &mut RunState,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let (spec, step) = (&self.problem.spec, state.step);
        let policy = &spec.policy;
        let due = step == 0
            || step == policy.steps
            || (policy.validate_every > 0 && step.is_multiple_of(policy.validate_every));
        if !due || state.history.validations.iter().any(|record| record.step == step) {
            return Ok(());
        }
        let writer = self.problem.writer()?;
        let count = policy.validated();
        let draw = Draw::validation(step);
        let greedy = writer.likeliest(self.stop)?;
        let drawn = writer.draw_validation(count, spec.seed, draw, self.stop)?;
        let scorer = self.problem.scorer(self.folder, self.stop);
        let (score, theta) = scorer.measure(&drawn.examples(spec.output.format), draw)?;
        let texts = drawn.texts();
        let record = ValidationRecord {
            step,
            score,
            outputs: outputs.of_validation(&texts, &greedy)?,
            greedy,
            samples: texts.into_iter().take(SAMPLES).collect(),
            decoded: self.problem.metric.decoded(&theta),
        };
        state.history.validations.push(record.clone());
        tell(&Event::Validation(record));
        Ok(())
    }

    /// Whether the last validation reached what the spec stops at.
    pub(crate) fn reached_goal(&self, state: &RunState) -> bool {
        let goal = self.problem.spec.policy.goal();
        goal.zip(state.history.validations.last()).is_some_and(|(goal, last)| goal.is_met(&last.figures()))
    }
}
