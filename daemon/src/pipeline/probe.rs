//! How long the parts of a run take, from a few small ones: costs are taken as linear in tokens.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use dpg_dataset::Example;
use dpg_engine::{Problem, Stop, Writer};
use dpg_metagrad::{Sft, Storage, metagradient_showing, metrics::WeightNorm};
use dpg_models::architecture;
use dpg_spec::{ApiGenerator, Generator, LocalGenerator, LrSchedule, NamedParameter, Parameters, Spec};

/// New tokens of a probe's completions.
const NEW: usize = 4;
/// Tokens of the first probe of the target, and by how much the next one has more.
const FEW: usize = 4;
const MORE: usize = 4;
/// Seconds after which a probe is the last one if it takes twice as long as the first, and tokens that it has at most.
const LAST: f64 = 0.5;
const MOST: usize = 4096;
/// Prompts of a teacher whose length is looked at.
const PROMPTS: usize = 64;
/// Completions that a generator draws together at most.
const TOGETHER: usize = 1024;
/// Walking back through a step in matrix products, as a multiple of a forward pass: through one that has another
/// before it, and through the first.
const OTHER: f64 = 8.0;
const FIRST: f64 = 3.0;

/// Seconds of a step, and of each of its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    step: f64,
    token: f64,
}

impl Line {
    /// Through two measurements of one step: tokens and seconds.
    fn through([few, many]: [(usize, f64); 2]) -> Self {
        let token = ((many.1 - few.1) / many.0.saturating_sub(few.0).max(1) as f64).max(0.0);
        Self { token, step: (few.1 - token * few.0 as f64).max(0.0) }
    }

    /// Seconds of some steps with so many tokens in all.
    pub(crate) fn at(self, steps: f64, tokens: f64) -> f64 {
        self.step * steps + self.token * tokens
    }

    /// The same for another number of weights.
    fn scaled(self, by: f64) -> Self {
        Self { step: self.step * by, token: self.token * by }
    }
}

/// What probes of a spec showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// A step of fine-tuning the target: there.
    pub(crate) fit: Line,
    /// And back.
    pub(crate) walk: Line,
    /// A step of training the generator.
    pub(crate) learn: Line,
    /// Seconds of each new token of all rollouts that are drawn together.
    pub(crate) decode: f64,
    /// Seconds of reading models and data.
    pub(crate) load: f64,
    /// Tokens that the target is trained on for each rollout, if it is as long as it may be.
    pub(crate) example: f64,
    /// Tokens of a prompt, on average, and of the longest.
    pub(crate) prompt: (f64, usize),
    /// Prompts to train on and to validate on.
    pub(crate) prompts: (usize, usize),
}

impl Probe {
    /// Draws a few tokens and fine-tunes on made-up ones. `problem` need not have a generator.
    pub(crate) fn new(
        spec: &Spec,
        problem: &Problem,
        devices: &[Device],
        stop: Stop,
    ) -> anyhow::Result<Self> {
        // teachers are asked nothing
        let Some(generator) = spec.generator()?.local() else {
            return Self::of_teachers(spec, problem, devices, stop);
        };
        let new = generator.max_new_tokens.min(NEW);
        // with all its new tokens, each prompt is checked
        let started = Instant::now();
        let mut writer = Writer::load(spec, devices)?;
        let load = started.elapsed().as_secs_f64();
        let lengths = writer.training.iter().map(|prompt| prompt.tokens.as_ref().map_or(0, Vec::len));
        let longest = lengths.clone().max().unwrap_or(0);
        let prompt = (lengths.sum::<usize>() as f64 / writer.training.len() as f64, longest);

        let prompts = (writer.training.len(), writer.validation.len());
        let rows = spec.policy.rollouts().min(TOGETHER);
        // of one prompt, which is read once
        writer.training.truncate(1);
        let writer = writer.drawing(
            &Generator::Local(LocalGenerator {
                min_new_tokens: new,
                max_new_tokens: new,
                ..generator.clone()
            }),
            devices,
        )?;
        // the first draw reads the weights from disk
        writer.generate(spec.output.format, rows, spec.seed, stop)?;
        let started = Instant::now();
        let drawn = writer.generate(spec.output.format, rows, spec.seed, stop)?;
        let draw = started.elapsed().as_secs_f64();

        let first = &writer.training[0];
        let tokens = |example: &[Example]| -> anyhow::Result<f64> {
            let encoded = problem.target.encode(example)?;
            Ok(encoded.iter().map(|example| example.tokens.len()).sum::<usize>() as f64
                / encoded.len() as f64)
        };
        let length = tokens(&drawn[..drawn.len().min(8)])?;
        // the target's tokens for one of the generator's
        let ratio = match first.tokens.as_ref().map_or(0, Vec::len) {
            0 | 1 => 1.0,
            asked => tokens(&[Example::Text(first.text.clone())])? / asked as f64,
        };
        let longer = match spec.generator()? {
            // what is written is an instruction, and the row is the teacher's
            Generator::Rubric(rubric) => rubric.teacher.max_completion_tokens as f64,
            settings => length + ratio * (settings.max_new_tokens() - new) as f64,
        };
        let example = longer.clamp(2.0, spec.target.sft.sequence_length as f64);

        // whatever is trained, a pass goes through all weights
        let weights = problem.target.model.lm.layout().model().len();
        let of_generator = architecture(Path::new(&generator.model))?.layout().len();
        let size = of_generator as f64 / weights as f64;
        let (fit, walk) = fine_tuning(problem, rows, example as usize, stop)?;
        let learn = fit.scaled(size);
        // reading the prompt is a forward pass
        let read = learn.token / 3.0 * first.tokens.as_ref().map_or(0, Vec::len) as f64;
        let decode = (draw - read).max(0.1 * draw) / new as f64;
        Ok(Self { fit, walk, learn, decode, load, example, prompt, prompts })
    }

    /// Asks teachers nothing: each of their answers would be paid for.
    fn of_teachers(spec: &Spec, problem: &Problem, devices: &[Device], stop: Stop) -> anyhow::Result<Self> {
        let writer = Writer::load(spec, devices)?;
        let prompts = (writer.training.len(), writer.validation.len());
        let arms: Vec<_> = spec.generator()?.teachers().into_iter().flat_map(ApiGenerator::arms).collect();
        // as the first arm asks, at most so many
        let asked = |row: &dpg_engine::Prompt| Example::Text(arms[0].template.replace("{text}", &row.text));
        let asked: Vec<_> = writer.training.iter().take(PROMPTS).map(asked).filter(says_something).collect();
        let tokens = problem.target.encode(&asked)?.into_iter().map(|example| example.tokens.len());
        let prompt =
            (tokens.clone().sum::<usize>() as f64 / asked.len().max(1) as f64, tokens.max().unwrap_or(0));
        let longest = spec.generator()?.max_new_tokens();
        let example = longest.clamp(2, spec.target.sft.sequence_length.max(2));
        let rows = spec.policy.rollouts().min(TOGETHER);
        let (fit, walk) = fine_tuning(problem, rows, example, stop)?;
        let learn = Line { step: 0.0, token: 0.0 };
        Ok(Self { fit, walk, learn, decode: 0.0, load: 0.0, example: example as f64, prompt, prompts })
    }
}

fn says_something(example: &Example) -> bool {
    !matches!(example, Example::Text(text) if text.is_empty())
}

/// A step of fine-tuning there and back, on examples of a length, as it is in a run on so many of them.
fn fine_tuning(problem: &Problem, rows: usize, length: usize, stop: Stop) -> anyhow::Result<(Line, Line)> {
    let target = &problem.target;
    let several = target.sft.steps(rows, length as f64) > 1;
    let (lm, theta) = (target.model.lm.as_ref(), &target.model.theta);
    let metric = match lm.layout().adapters() {
        None => {
            let head = dpg_spec::WeightNorm { parameter: Parameters::One(NamedParameter::lm_head()) };
            WeightNorm::new(&head, lm, theta)?
        }
        // of the adapters as they are
        Some(_) => WeightNorm::of(std::iter::once(0..lm.layout().len()).collect(), theta),
    };
    // as it is in the middle of a run
    let recipe = dpg_spec::Sft {
        lr_schedule: LrSchedule::Constant,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        ..target.sft.clone()
    };
    let measure = |tokens: usize| -> anyhow::Result<[f64; 2]> {
        let length = length.min(tokens).min(lm.context()).max(2);
        let row = |row: usize| {
            let id = |column: usize| ((row * 31 + column * 7 + 1) % lm.vocab_size()) as u32;
            dpg_models::Example::all_scored((0..length).map(id).collect())
        };
        let examples: Vec<_> = (0..tokens.div_ceil(length)).map(row).collect();
        let batch: Vec<usize> = (0..examples.len()).collect();
        let batches = vec![batch; if several { 2 } else { 1 }];
        let weights = vec![1.0; examples.len()];
        let sft = Sft { recipe: &recipe, ..target.sft(&examples, &weights, &batches, stop) };
        let storage = Storage { traces: sft.takes_at_once(rows), ..Storage::default() };
        let started = Instant::now();
        let mut trained = 0.0;
        let show = |_: &Tensor<1>| trained = started.elapsed().as_secs_f64();
        metagradient_showing(sft, &metric, &storage, show)?;
        let back = started.elapsed().as_secs_f64() - trained;
        let there = trained / batches.len() as f64;
        Ok([there, if several { back * OTHER / (OTHER + FIRST) } else { back }])
    };
    // the first time all is slower
    measure(FEW)?;
    let (mut few, mut many) = ((FEW, measure(FEW)?), (MORE * FEW, measure(MORE * FEW)?));
    let seconds = |of: (usize, [f64; 2])| of.1.iter().sum::<f64>();
    let enough = LAST.max(2.0 * seconds(few));
    while seconds(many) < enough && many.0 < MOST {
        (few, many) = (many, (MORE * many.0, measure(MORE * many.0)?));
    }
    let line = |which: usize| Line::through([(few.0, few.1[which]), (many.0, many.1[which])]);
    Ok((line(0), line(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_measurements() {
        let line = Line::through([(4, 1.4), (104, 11.4)]);
        for (steps, tokens, seconds) in [(1.0, 4.0, 1.4), (1.0, 104.0, 11.4), (3.0, 0.0, 3.0)] {
            assert!((line.at(steps, tokens) - seconds).abs() < 1e-12, "{line:?}");
        }
        // noise never makes a token cost less than nothing
        assert_eq!(Line::through([(4, 2.0), (104, 1.0)]), Line { step: 2.0, token: 0.0 });
    }
}
