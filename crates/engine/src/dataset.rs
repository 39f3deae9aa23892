//! The dataset that a run ends with.

use burn::tensor::Tensor;
use dpg_dataset::{Example, Row};
use dpg_metagrad::metrics::Picture;
use dpg_policy::advantages;
use dpg_spec::{Advantage, Policy, Select};

use crate::{ArmRecord, Draw, Error, Run, state::RunState};

/// The rows and what there is to tell of them.
pub(crate) struct Dataset {
    pub(crate) rows: Vec<Row>,
    /// Examples without any text, which are not among the rows.
    pub(crate) left_out: usize,
    /// The teacher's arms in all that was drawn.
    pub(crate) arms: Vec<ArmRecord>,
    /// The metric's pictures of the target fine-tuned on it.
    pub(crate) pictures: Vec<Picture>,
}

impl Run<'_> {
    /// The final dataset: `examples` rows drawn from the final generator, and scored.
    pub(crate) fn dataset(&self, state: &RunState, examples: usize) -> Result<Dataset, Error> {
        let spec = &self.problem.spec;
        let (seed, &Policy { group_size, advantage, .. }) = (spec.seed, &spec.policy);
        let group_size = spec.output.group_size.unwrap_or(group_size);
        let advantage = if group_size == 1 { Advantage::Global } else { advantage };
        let groups = (examples.div_ceil(group_size), group_size);
        let drawn = self.problem.writer()?.draw_groups(groups, seed, Draw::FINAL, self.stop)?;
        let mut pictures = vec![];
        let show = |theta: &Tensor<1>| pictures = self.problem.metric.pictures(theta);
        let texts = drawn.examples(spec.output.format);
        let scorer = self.problem.scorer(self.folder, self.stop);
        let rewards = scorer.score_showing(&texts, Draw::FINAL, show)?.rewards;
        let in_step = |source| Error::Policy { step: state.step, source };
        let advantages = advantages(&rewards, group_size, advantage, 0.0).map_err(in_step)?;
        let chances = self.problem.writer()?.generator.about().arms;
        let arms = ArmRecord::of(chances, &drawn.completions, &rewards);
        let rows = texts.into_iter().enumerate().map(|(i, example)| {
            let completion = &drawn.completions[i];
            Row {
                example,
                reward: rewards[i],
                group_id: (i / group_size) as u64,
                step: state.step as u64,
                advantage: advantages[i],
                logprob: completion.log_probs.as_ref().map(|each| each.iter().sum()),
                n_tokens: completion.length().map(|tokens| tokens as u64),
                arm: completion.asked.as_ref().and_then(|asked| asked.name.clone()),
                prompt: drawn.prompts[i].text.clone(),
                seed,
            }
        });
        let mut rows: Vec<Row> = rows.take(examples).collect();
        let drawn = rows.len();
        rows.retain(|row| !matches!(&row.example, Example::Text(text) if text.is_empty()));
        let left_out = drawn - rows.len();
        if let Select::TopFraction(share) = spec.output.select {
            rows.sort_by(|a, b| b.reward.total_cmp(&a.reward));
            rows.truncate(((rows.len() as f64 * share).ceil() as usize).max(1));
        }
        Ok(Dataset { rows, left_out, arms, pictures })
    }
}
