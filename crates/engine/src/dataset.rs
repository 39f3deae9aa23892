//! The dataset that a run ends with.

use std::collections::HashMap;

use burn::tensor::Tensor;
use dpg_dataset::{Example, Row};
use dpg_metagrad::metrics::Picture;
use dpg_policy::advantages;
use dpg_spec::{Advantage, HeldOutOverlap, Policy, Select, Spec, Within};

use crate::{
    ArmRecord, Draw, Error, Lengths, Run,
    collect::Collected,
    gates::{Copies, Refused},
    lengths::{self, Measure},
    state::RunState,
};

/// The rows and what there is to tell of them.
pub(crate) struct Dataset {
    pub(crate) rows: Vec<Row>,
    /// Examples without any text, which are not among the rows.
    pub(crate) left_out: usize,
    /// Rows that gates refused, and all that were drawn, if there are gates.
    pub(crate) refused: Option<(Refused, usize)>,
    /// Rows with a copy of what the metric holds out, if it holds out anything.
    pub(crate) copies: Option<usize>,
    /// How long the rows are, if the spec says how long they should be.
    pub(crate) lengths: Option<Lengths>,
    /// The generator's arms in all that was drawn.
    pub(crate) arms: Vec<ArmRecord>,
    /// The metric's pictures of the target fine-tuned on it.
    pub(crate) pictures: Vec<Picture>,
}

/// A row, and what of it is not published.
struct Drawn {
    row: Row,
    tokens: usize,
    /// The class of its prompt.
    class: Option<String>,
    stopped: bool,
    sibling: bool,
}

impl Drawn {
    fn measure(&self) -> Measure<'_> {
        Measure { tokens: self.tokens, prompts: self.class.as_deref() }
    }
}

impl Run<'_> {
    /// The final dataset: `examples` rows drawn from the final generator, and scored.
    pub(crate) fn dataset(&self, state: &RunState, examples: usize) -> Result<Dataset, Error> {
        let spec = &self.problem.spec;
        let (seed, &Policy { group_size, advantage, .. }) = (spec.seed, &spec.policy);
        let group_size = spec.output.group_size.unwrap_or(group_size);
        // groups that gates have left rows of are not compared inside
        let refuses = spec.output.refuses();
        let advantage = if group_size == 1 || refuses { Advantage::Global } else { advantage };
        let Collected { prompts, completions, groups, siblings, refused, drawn } =
            self.collect(examples, group_size)?;
        let mut pictures = vec![];
        let show = |theta: &Tensor<1>| pictures = self.problem.metric.pictures(theta);
        let both = || prompts.iter().zip(&completions);
        let texts: Vec<Example> = both()
            .map(|(prompt, completion)| crate::writer::row(prompt, completion, spec.output.format))
            .collect();
        let scorer = self.problem.scorer(self.folder, self.stop);
        let rewards = scorer.score_showing(&texts, Draw::FINAL, show)?.rewards;
        let in_step = |source| Error::Policy { step: state.step, source };
        let advantages = advantages(&rewards, group_size, advantage, 0.0).map_err(in_step)?;
        let about = self.problem.writer()?.generator.about();
        let arms = ArmRecord::of(about.arms.clone(), &completions, &rewards);
        let model = &self.problem.target.model;
        let row = |(i, example): (usize, Example)| {
            let completion = &completions[i];
            let tokens = spec.output.length.as_ref().map(|_| lengths::tokens(model, &completion.text));
            let row = Row {
                example,
                reward: rewards[i],
                group_id: groups[i],
                step: state.step as u64,
                advantage: advantages[i],
                logprob: completion.log_probs.as_ref().map(|each| each.iter().sum()),
                n_tokens: completion.length().map(|tokens| tokens as u64),
                arm: completion.asked.as_ref().and_then(|asked| asked.name.clone()),
                prompt: prompts[i].text.clone(),
                seed,
            };
            let (stopped, sibling) = (completion.stopped, siblings[i]);
            let tokens = tokens.transpose()?.unwrap_or_default();
            Ok(Drawn { row, tokens, class: prompts[i].class.clone(), stopped, sibling })
        };
        let mut rows =
            texts.into_iter().enumerate().take(examples).map(row).collect::<Result<Vec<_>, Error>>()?;
        let scored = rows.len();
        rows.retain(|drawn| !matches!(&drawn.row.example, Example::Text(text) if text.is_empty()));
        let left_out = scored - rows.len();
        if let Select::TopFraction(share) = spec.output.select {
            rows = best(spec, rows, share);
        }
        let lengths = spec.output.length.as_ref().map(|length| {
            let (measures, rewards): (Vec<_>, Vec<f64>) =
                rows.iter().map(|drawn| (drawn.measure(), drawn.row.reward)).unzip();
            let stopped: Vec<bool> = rows.iter().map(|drawn| drawn.stopped).collect();
            let siblings = rows.iter().filter(|drawn| drawn.sibling).count();
            Lengths::of((length, &lengths::wanted(length, &about)), (&measures, &rewards), &stopped, siblings)
        });
        let rows: Vec<Row> = rows.into_iter().map(|drawn| drawn.row).collect();
        let copies = Copies::of(HeldOutOverlap::default(), &self.problem.held_out);
        let copies = (!copies.is_empty()).then(|| rows.iter().filter(|row| copies.has(&row.example)).count());
        Ok(Dataset {
            rows,
            left_out,
            refused: refuses.then_some((refused, drawn)),
            copies,
            lengths,
            arms,
            pictures,
        })
    }
}

/// The rows with the highest rewards, in their order: a share of all, or of each prompt's or each class'.
fn best(spec: &Spec, mut rows: Vec<Drawn>, share: f64) -> Vec<Drawn> {
    let classes = spec.output.length.as_ref().map(dpg_spec::Length::classes).unwrap_or_default();
    let part = |drawn: &Drawn| match spec.output.select_within {
        Within::All => 0,
        Within::Prompt => drawn.row.group_id,
        Within::Length => drawn.measure().class(&classes).map_or(u64::MAX, |class| class as u64),
    };
    let mut room = HashMap::<u64, usize>::new();
    for drawn in &rows {
        *room.entry(part(drawn)).or_default() += 1;
    }
    for rows in room.values_mut() {
        *rows = ((*rows as f64 * share).ceil() as usize).max(1);
    }
    rows.sort_by(|a, b| b.row.reward.total_cmp(&a.row.reward));
    rows.retain(|drawn| {
        let room = room.entry(part(drawn)).or_default();
        let stays = *room > 0;
        *room -= usize::from(stays);
        stays
    });
    rows
}
