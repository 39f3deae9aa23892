//! The Dataset Policy Gradient loop (arXiv 2604.08423, algorithm 1): generate, score, update.
//!
//! A step draws a group of completions for each of some prompts, fine-tunes the target on all of
//! them, takes the metagradients as rewards, and updates the generator. After the last step the
//! final generator draws the dataset, which is scored the same way. Everything random is keyed by
//! the spec's seed and a counter, and the state is on disk after every step, so a run that is killed
//! and started again ends with the same dataset.

mod audit;
pub mod chart;
mod conversation;
mod encode;
mod error;
mod event;
mod feasibility;
mod fluency;
mod language;
mod outputs;
mod precision;
mod problem;
mod recipe;
mod rewards;
mod rollouts;
mod signal;
mod state;
mod trust;
mod verify;

use std::path::Path;

use burn::tensor::Tensor;
use dpg_dataset::Row;
use dpg_metagrad::{
    Metric, State,
    metrics::{Picture, film_strip},
};
use dpg_models::keyed_rng;
pub use dpg_policy::mean_and_deviation;
use dpg_policy::{Policy, Rollout, advantages, update};
use dpg_spec::{Advantage, Select, Spec};
use rand::{RngExt, seq::index};

pub use audit::{Audit, Audited, Extent, LinearDatamodelling, Statistic, audit};
pub use error::Error;
pub use event::{Event, History, StepRecord, ValidationRecord};
pub use feasibility::reweigh;
pub use language::languages;
pub use outputs::Outputs;
pub use precision::reward_errors;
pub use problem::{Prompt, Source, Target, helpful};
pub use recipe::recipe;
pub use rollouts::{Scored, generate, measure, score, score_showing};
pub use signal::{Signal, signal};
pub use trust::{doubts, single_precision};
pub use verify::{Arm, Estimate, Published, Verification};

use rewards::Judge;
use rollouts::{Draw, draw, greedy};
pub use state::{STATE_FILE, WARM_FILE};

use state::RunState;

/// Everything a run works on.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The spec, its paths local.
    pub spec: &'a Spec,
    /// The target model.
    pub target: &'a Target,
    /// The generator and its prompts.
    pub source: &'a Source,
    /// The metric.
    pub metric: &'a dyn Metric,
    /// Where the run keeps its state, [`STATE_FILE`]; the folder exists. A run without one starts from
    /// the generator in [`WARM_FILE`], the state of an earlier run, if that is there. States of inner runs
    /// that memory cannot hold go there too.
    pub folder: &'a Path,
    /// Asked often; true stops the run with its state on disk.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What a run ends with.
pub struct Outcome {
    /// The dataset, ready to be published.
    pub rows: Vec<Row>,
    /// Examples without any text, which are not among the rows.
    pub left_out: usize,
    /// The metric's pictures of the target fine-tuned on the dataset.
    pub pictures: Vec<Picture>,
    /// The trained generator's weights `[n]`.
    pub generator: Tensor<1>,
    /// All that happened.
    pub history: History,
}

/// Draws are numbered: steps count from 0, validations and the final draw far above them.
const VALIDATION: u64 = 1 << 32;
const FINAL: u64 = 1 << 33;

impl Run<'_> {
    /// What the untrained generator writes for the first step, as it would be published.
    pub fn first_draw(&self) -> Result<Vec<dpg_dataset::Example>, Error> {
        let policy = &self.spec.policy;
        self.untrained_draw(policy.prompts_per_step * policy.group_size, 0)
    }

    fn untrained_draw(&self, examples: usize, number: u64) -> Result<Vec<dpg_dataset::Example>, Error> {
        let group_size = self.spec.policy.group_size;
        let prompts = examples.div_ceil(group_size);
        let mut drawn = self
            .draw(&self.source.model.theta, prompts, group_size, number)?
            .examples(self.spec.output.format);
        drawn.truncate(examples);
        Ok(drawn)
    }

    /// Runs the loop from where its state stands to the end.
    pub fn run(&self, tell: &mut dyn FnMut(&Event)) -> Result<Outcome, Error> {
        let steps = self.spec.policy.steps;
        let theta = &self.source.model.theta;
        let (length, device) = (theta.dims()[0], theta.device());
        let mut state = if let Some(state) = RunState::load(self.folder, length, &device)? {
            state
        } else {
            let warm = RunState::warm(self.folder, length, &device)?;
            RunState {
                step: 0,
                applied: 0,
                generator: State::new(warm.unwrap_or_else(|| theta.clone())),
                history: History::default(),
            }
        };
        let judge = Judge::new(self)?;
        tell(&Event::Started { step: state.step, steps });
        let outputs = Outputs::new(&self.spec.metric, self.source.device())?;
        self.validate(&outputs, &mut state, tell)?;
        while state.step < steps && !self.reached_goal(&state) {
            self.scheduled_step(&judge, &mut state, tell)?;
            self.validate(&outputs, &mut state, tell)?;
        }
        let examples = self.spec.output.examples;
        tell(&Event::Drawing { examples });
        let (rows, left_out, mut pictures) = self.dataset(&state, examples)?;
        pictures.push(chart::curves(&state.history));
        let frames: Vec<_> =
            state.history.validations.iter().flat_map(|record| record.decoded.clone()).collect();
        pictures.extend(film_strip(&frames).map(|png| Picture { name: "film".into(), png }));
        Ok(Outcome { rows, left_out, pictures, generator: state.generator.theta, history: state.history })
    }

    /// A step with the numbers of the spec's schedule as they stand.
    fn scheduled_step(
        &self,
        judge: &Judge,
        state: &mut RunState,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let spec = self.spec.at_step(state.step);
        if !spec.schedules_scoring() {
            return Run { spec: &spec, ..*self }.step(judge, state, tell);
        }
        let target = self.target.with_recipe(&spec);
        let metric = target.metric(&spec)?;
        Run { spec: &spec, target: &target, metric: metric.as_ref(), ..*self }.step(judge, state, tell)
    }

    /// Generate, score, update.
    fn step(&self, judge: &Judge, state: &mut RunState, tell: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        let (policy, step) = (&self.spec.policy, state.step);
        let drawn =
            self.draw(&state.generator.theta, policy.prompts_per_step, policy.group_size, step as u64)?;
        let (rewards, score) = judge.rewards(self, &drawn, step as u64)?;
        if step == 0 && matches!(judge, Judge::Metagradient) {
            tell(&Event::Signal(self.signal(&drawn, &rewards)?));
        }
        let in_step = |source| Error::Policy { step, source };
        let advantages = advantages(&rewards, policy.group_size, policy.advantage, policy.advantage_clip)
            .map_err(in_step)?;
        let rollouts = rollouts_of(&drawn, &advantages);
        let learner = Policy {
            lm: self.source.model.lm.as_ref(),
            initial: &self.source.model.theta,
            settings: policy,
            microbatch: self.source.microbatch(),
            devices: self.source.devices(),
        };
        let sampling = self.source.sampling(self.spec.seed, step as u64);
        let (generator, applied, report) =
            update(&learner, state.generator.clone(), state.applied, &rollouts, &sampling)
                .map_err(in_step)?;
        let (reward_mean, reward_std) = mean_and_deviation(&rewards);
        let tokens: usize = drawn.completions.iter().map(|completion| completion.tokens.len()).sum();
        let record = StepRecord {
            step,
            score,
            reward_mean,
            reward_std,
            length: tokens as f64 / rewards.len() as f64,
            update: report,
        };
        state.generator = generator;
        state.applied = applied;
        state.step += 1;
        state.history.steps.push(record.clone());
        state.save(self.folder)?;
        tell(&Event::Step(record));
        if (self.cancelled)() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Whether rewards can be told apart, on the first step's rollouts.
    fn signal(&self, drawn: &Draw, rewards: &[f64]) -> Result<Signal, Error> {
        let (examples, helpful) = (drawn.examples(self.spec.output.format), helpful(&self.spec.metric)?);
        signal(self.target, self.metric, &examples, &helpful, rewards, self.folder, self.cancelled)
    }

    /// Phi on fresh generations from the prompts kept aside, if this step is due for it.
    fn validate(
        &self,
        outputs: &Outputs,
        state: &mut RunState,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        const SAMPLES: usize = 5;
        let (policy, step) = (&self.spec.policy, state.step);
        let due = step == 0
            || step == policy.steps
            || (policy.validate_every > 0 && step.is_multiple_of(policy.validate_every));
        if !due || state.history.validations.iter().any(|record| record.step == step) {
            return Ok(());
        }
        let count = policy.validation_examples.unwrap_or(policy.prompts_per_step * policy.group_size);
        let prompts = self.source.validation.iter().cycle().take(count).cloned().collect();
        let number = VALIDATION + step as u64;
        let first = self.source.validation[0].clone();
        let greedy = greedy(self.source, &state.generator.theta, first, self.cancelled)?;
        let seed = self.spec.seed;
        let drawn = draw(self.source, &state.generator.theta, prompts, seed, number, self.cancelled)?;
        let (score, theta) = measure(
            self.target,
            self.metric,
            &drawn.examples(self.spec.output.format),
            number,
            self.cancelled,
        )?;
        let record = ValidationRecord {
            step,
            score,
            outputs: outputs.of_validation(&drawn.texts, &greedy)?,
            greedy,
            samples: drawn.texts.iter().take(SAMPLES).cloned().collect(),
            decoded: self.metric.decoded(&theta),
        };
        state.history.validations.push(record.clone());
        tell(&Event::Validation(record));
        Ok(())
    }

    /// Whether the last validation reached what the spec stops at.
    fn reached_goal(&self, state: &RunState) -> bool {
        let goal = self.spec.policy.goal();
        goal.zip(state.history.validations.last()).is_some_and(|(goal, last)| goal.is_met(&last.figures()))
    }

    /// The final dataset, drawn from the final generator and scored, and how many rows had no text.
    fn dataset(&self, state: &RunState, examples: usize) -> Result<(Vec<Row>, usize, Vec<Picture>), Error> {
        let dpg_spec::Policy { group_size, advantage, .. } = self.spec.policy;
        let group_size = self.spec.output.group_size.unwrap_or(group_size);
        let advantage = if group_size == 1 { Advantage::Global } else { advantage };
        let drawn = self.draw(&state.generator.theta, examples.div_ceil(group_size), group_size, FINAL)?;
        let mut pictures = vec![];
        let show = |theta: &Tensor<1>| pictures = self.metric.pictures(theta);
        let texts = drawn.examples(self.spec.output.format);
        let scored =
            score_showing(self.target, self.metric, &texts, FINAL, self.folder, self.cancelled, show)?;
        let rewards = scored.rewards;
        let in_step = |source| Error::Policy { step: state.step, source };
        let advantages = advantages(&rewards, group_size, advantage, 0.0).map_err(in_step)?;
        let seed = self.spec.seed;
        let rows = texts.into_iter().enumerate().map(|(i, example)| {
            let completion = &drawn.completions[i];
            Row {
                example,
                reward: rewards[i],
                group_id: (i / group_size) as u64,
                step: state.step as u64,
                advantage: advantages[i],
                logprob: completion.log_probs.iter().sum(),
                n_tokens: completion.tokens.len() as u64,
                prompt: drawn.prompts[i].text.clone(),
                seed,
            }
        });
        let mut rows: Vec<Row> = rows.take(examples).collect();
        let drawn = rows.len();
        rows.retain(|row| !matches!(&row.example, dpg_dataset::Example::Text(text) if text.is_empty()));
        let left_out = drawn - rows.len();
        if let Select::TopFraction(share) = self.spec.output.select {
            rows.sort_by(|a, b| b.reward.total_cmp(&a.reward));
            rows.truncate(((rows.len() as f64 * share).ceil() as usize).max(1));
        }
        Ok((rows, left_out, pictures))
    }

    /// `prompts` training prompts, other ones as far as there are, each asked `group_size` times in a row.
    fn draw(&self, theta: &Tensor<1>, prompts: usize, group_size: usize, number: u64) -> Result<Draw, Error> {
        let mut rng = keyed_rng([self.spec.seed, number, 0, u64::from_le_bytes(*b"choosing")]);
        let training = &self.source.training;
        let chosen = if prompts <= training.len() {
            index::sample(&mut rng, training.len(), prompts).into_vec()
        } else {
            (0..prompts).map(|_| rng.random_range(0..training.len())).collect()
        };
        let of_each = |prompt: usize| std::iter::repeat_n(training[prompt].clone(), group_size);
        let prompts = chosen.into_iter().flat_map(of_each).collect();
        draw(self.source, theta, prompts, self.spec.seed, number, self.cancelled)
    }
}

fn rollouts_of(drawn: &Draw, advantages: &[f64]) -> Vec<Rollout> {
    let parts = drawn.prompts.iter().zip(&drawn.completions).zip(advantages);
    parts
        .map(|((prompt, completion), &advantage)| Rollout {
            prompt: prompt.tokens.clone(),
            completion: completion.clone(),
            advantage,
        })
        .collect()
}
