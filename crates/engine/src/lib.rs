//! The Dataset Policy Gradient loop (arXiv 2604.08423, algorithm 1): generate, score, update.
//!
//! A step draws a group of completions for each of some prompts, fine-tunes the target on all of
//! them, takes the metagradients as rewards, and updates the generator. After the last step the
//! final generator draws the dataset, which is scored the same way. Everything random is keyed by
//! the spec's seed and a counter, and the state is on disk after every step, so a run that is killed
//! and started again ends with the same dataset.
//!
//! ```no_run
//! use burn::tensor::{DType, Device};
//! use dpg_engine::{Problem, Run};
//!
//! let spec = dpg_spec::Spec::load("spec.toml".as_ref())?;
//! let mut problem = Problem::load(&spec, DType::F32, &[Device::flex()], &|| false)?;
//! let run = Run { problem: &mut problem, folder: "state".as_ref(), stop: &|| false };
//! let outcome = run.run(&mut |event| println!("{event:?}"))?;
//! println!("{} rows", outcome.rows.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Problem`] is a spec with all that it names in memory; a [`Scorer`] fine-tunes fresh targets of it on
//! examples that there are already:
//!
//! ```no_run
//! # use burn::tensor::{DType, Device};
//! # use dpg_engine::{Draw, Problem};
//! # let spec = dpg_spec::Spec::load("spec.toml".as_ref())?;
//! let problem = Problem::to_score(&spec, DType::F32, &[Device::flex()])?;
//! let scorer = problem.scorer("scratch".as_ref(), &|| false);
//! let examples = ["un perro", "a dog"].map(|text| dpg_dataset::Example::Text(text.into()));
//! println!("{:?}", scorer.score(&examples, Draw::FIRST)?.rewards);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod audit;
pub mod chart;
mod collect;
mod conversation;
mod dataset;
mod encode;
mod error;
mod evaluation;
mod event;
mod feasibility;
mod fluency;
mod gates;
mod held_out;
mod language;
mod lengths;
mod outputs;
mod precision;
mod problem;
mod prompts;
mod randomness;
mod recipe;
mod rewards;
mod scorer;
mod signal;
mod sources;
mod state;
mod target;
mod terms;
mod trust;
mod validation;
mod verify;
mod writer;

use std::{collections::BTreeMap, path::Path};

use dpg_dataset::Row;
use dpg_generator::{Lesson, Rollout};
use dpg_metagrad::metrics::{Picture, film_strip};
use dpg_models::give_back_large;
use dpg_policy::advantages;

pub use audit::{Audit, Audited, Extent, LinearDatamodelling, Statistic};
pub use dpg_generator::{ANSWERS_FILE, Account, Prompt, Stop};
pub use dpg_policy::mean_and_deviation;
pub use error::Error;
pub use evaluation::{Evaluation, direction};
pub use event::{ArmRecord, Event, History, StepRecord, ValidationRecord};
pub use held_out::HeldOutTexts;
pub use language::languages;
pub use lengths::{LengthRecord, Lengths};
pub use outputs::Outputs;
pub use problem::Problem;
pub use randomness::Draw;
pub use recipe::recipe;
pub use scorer::{Scored, Scorer};
pub use signal::Signal;
pub use state::{STATE_FILE, WARM_FILE};
pub use target::Target;
pub use trust::Trust;
pub use verify::{Arm, Estimate, Published, Verification};
pub use writer::Writer;

use dataset::Dataset;
use rewards::Judge;
use state::RunState;
use terms::Terms;

/// A run of a problem.
pub struct Run<'a> {
    /// What it works on; its generator is trained.
    pub problem: &'a mut Problem,
    /// Where the run keeps its state, [`STATE_FILE`]; the folder exists. A run without one starts from
    /// the generator in [`WARM_FILE`], the state of an earlier run, if that is there. States of inner runs
    /// that memory cannot hold go there too.
    pub folder: &'a Path,
    /// Asked often; true stops the run with its state on disk.
    pub stop: Stop<'a>,
}

/// What a run ends with, besides the trained generator.
pub struct Outcome {
    /// The dataset, ready to be published.
    pub rows: Vec<Row>,
    /// Examples without any text, which are not among the rows.
    pub left_out: usize,
    /// Rows that gates and quotas refused, by what was wrong with them, and all that were drawn; nothing if there are none.
    pub refused: Option<(BTreeMap<String, usize>, usize)>,
    /// Rows with eight words in a row of a text that the metric holds out, or all of a shorter one; nothing if it holds out
    /// no such text.
    pub copies: Option<usize>,
    /// How long the rows are, if the spec says how long they should be.
    pub lengths: Option<Lengths>,
    /// The metric's pictures of the target fine-tuned on the dataset.
    pub pictures: Vec<Picture>,
    /// The arms of the generator in it, and the classes of lengths that it was told; none if it has none.
    pub arms: Vec<ArmRecord>,
    /// What all that was drawn took, if somebody counts it.
    pub account: Option<Account>,
    /// The same of each part of the generator that counts, if it has parts.
    pub accounts: Vec<(String, Account)>,
    /// All that happened.
    pub history: History,
}

impl Run<'_> {
    /// Runs the loop from where its state stands to the end.
    pub fn run(mut self, tell: &mut dyn FnMut(&Event)) -> Result<Outcome, Error> {
        let mut state = RunState::load(self.folder, self.problem.writer_mut()?.generator.as_mut())?;
        let Problem { spec, target, held_out, devices, .. } = &*self.problem;
        let (steps, examples) = (spec.policy.steps, spec.output.examples);
        let judge = Judge::new(spec.policy.reward, target, &held_out.helpful(&spec.metric))?;
        tell(&Event::Started { step: state.step, steps });
        let outputs = Outputs::new(&spec.metric, held_out, &devices[0])?;
        self.validate(&outputs, &mut state, tell)?;
        while state.step < steps && !self.reached_goal(&state) {
            if !self.affords_a_step()? {
                tell(&Event::Spent { step: state.step });
                break;
            }
            self.step(&judge, &mut state, tell)?;
            self.validate(&outputs, &mut state, tell)?;
        }
        tell(&Event::Drawing { examples });
        let Dataset { rows, left_out, refused, copies, lengths, arms, mut pictures } =
            self.dataset(&state, examples)?;
        if let Some((refused, drawn)) = &refused {
            tell(&Event::Refused { drawn: *drawn, kept: rows.len(), refused: refused.clone() });
        }
        pictures.extend(lengths.as_ref().and_then(|lengths| lengths.curve(&state.history)));
        pictures.push(chart::curves(&state.history));
        let frames: Vec<_> =
            state.history.validations.iter().flat_map(|record| record.decoded.clone()).collect();
        pictures.extend(film_strip(&frames).map(|png| Picture { name: "film".into(), png }));
        let generator = self.problem.writer()?.generator.as_ref();
        let (account, accounts) = (generator.account(None), generator.accounts());
        Ok(Outcome {
            rows,
            left_out,
            refused,
            copies,
            lengths,
            pictures,
            arms,
            account,
            accounts,
            history: state.history,
        })
    }

    /// Whether the generator's budget has room for a step with its validation, and for the dataset after it.
    fn affords_a_step(&self) -> Result<bool, Error> {
        let spec = &self.problem.spec;
        let answers = spec.policy.rollouts() + spec.policy.validated() + 1 + spec.dataset_rollouts();
        Ok(self.problem.writer()?.generator.affords(answers))
    }

    /// Generate, score, update, with the numbers of the spec's schedule as they stand.
    fn step(
        &mut self,
        judge: &Judge,
        state: &mut RunState,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let (step, draw) = (state.step, Draw::step(state.step));
        let spec = self.problem.spec.at_step(step);
        let (policy, groups) = (&spec.policy, (spec.policy.prompts_per_step, spec.policy.group_size));

        let drawn = self.problem.writer()?.draw_groups(groups, spec.seed, draw, self.stop)?;

        let (target, metric) = self.problem.with_numbers(&spec);
        let (target, metric) = (target.as_ref(), metric.as_ref());
        let scorer = Scorer { target, metric, scratch: self.folder, stop: self.stop };
        let examples = drawn.examples(spec.output.format);
        let (rewards, score) = judge.rewards(&scorer, policy, &examples, draw)?;
        if step == 0 && matches!(judge, Judge::Metagradient) {
            let helpful = self.problem.held_out.helpful(&spec.metric);
            tell(&Event::Signal(scorer.signal(&examples, &helpful, &rewards)?));
        }

        let terms = self.terms(&spec, &drawn, &rewards)?;
        let shaped = terms.shaped(&rewards);
        let advantages = advantages(&shaped, policy.group_size, policy.advantage, policy.advantage_clip)
            .map_err(|source| Error::Policy { step, source })?;
        let length = drawn.length();
        let chances = self.problem.writer()?.generator.about().arms;
        let arms = ArmRecord::of(chances, &drawn.completions, &rewards);
        let answered = drawn.prompts.into_iter().zip(drawn.completions).zip(advantages);
        let rollouts: Vec<_> = answered
            .map(|((prompt, completion), advantage)| Rollout { prompt, completion, advantage })
            .collect();
        // vectors of the inner run; a lesson has activations
        give_back_large();
        let Writer { generator, training, .. } = self.problem.writer_mut()?;
        let lesson = Lesson { rollouts: &rollouts, prompts: training, policy };
        let update = generator.learn(&lesson).map_err(Error::in_step(step))?;

        let (reward_mean, reward_std) = mean_and_deviation(&rewards);
        let (account, total) = (generator.account(Some(draw.number())), generator.account(None));
        let Terms { refused, lengths, .. } = terms;
        let record = StepRecord {
            step,
            score,
            reward_mean,
            reward_std,
            length,
            update,
            arms,
            refused,
            lengths,
            account,
            total,
        };
        state.step += 1;
        state.history.steps.push(record.clone());
        state.save(self.folder, generator.as_ref())?;
        self.problem.target.make_room();
        tell(&Event::Step(record));
        if (self.stop)() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
