//! Drawing completions from the generator and scoring them on the target.

use std::path::Path;

use burn::tensor::Tensor;
use dpg_dataset::{Example, message};
use dpg_metagrad::{Metric, Score, Storage, metagradient_showing};
use dpg_models::{Completion, Sampling, sample_until};
use dpg_spec::Format;

use crate::{Error, Prompt, Source, Target};

/// Completions of some prompts.
pub(crate) struct Draw {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) completions: Vec<Completion>,
    /// What the completions say.
    pub(crate) texts: Vec<String>,
}

/// Draws one completion for each prompt from the weights `theta`; `draw` numbers it within the run.
pub(crate) fn draw(
    source: &Source,
    theta: &Tensor<1>,
    prompts: Vec<Prompt>,
    seed: u64,
    draw: u64,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Draw, Error> {
    draw_with(source, theta, prompts, &source.sampling(seed, draw), cancelled)
}

/// The most likely completion of a prompt, token by token.
pub(crate) fn greedy(
    source: &Source,
    theta: &Tensor<1>,
    prompt: Prompt,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<String, Error> {
    let sampling = Sampling { temperature: 0.0, ..source.sampling(0, 0) };
    Ok(draw_with(source, theta, vec![prompt], &sampling, cancelled)?.texts.remove(0))
}

fn draw_with(
    source: &Source,
    theta: &Tensor<1>,
    prompts: Vec<Prompt>,
    sampling: &Sampling,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Draw, Error> {
    let tokens: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    let completions = sample_until(source.model.lm.as_ref(), theta, &tokens, sampling, cancelled)?;
    let tokenizer = &source.model.tokenizer;
    let texts = completions
        .iter()
        .map(|completion| tokenizer.decode(&completion.tokens))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Draw { prompts, completions, texts })
}

impl Draw {
    /// The rows as they would be published.
    pub(crate) fn examples(&self, format: Format) -> Vec<Example> {
        let row = |(prompt, text): (&Prompt, &String)| match format {
            Format::Text => Example::Text(text.clone()),
            Format::PromptCompletion => {
                Example::PromptCompletion { prompt: prompt.text.clone(), completion: text.clone() }
            }
            Format::Messages => {
                Example::Messages(vec![message("user", &prompt.text), message("assistant", text)].into())
            }
        };
        self.prompts.iter().zip(&self.texts).map(row).collect()
    }
}

/// Draws are numbered: those outside of runs and verifications from here.
const GENERATION: u64 = 1 << 35;

/// Draws `examples` fresh examples from a generator as it is, its prompts in turn.
pub fn generate(
    source: &Source,
    format: Format,
    examples: usize,
    seed: u64,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Example>, Error> {
    let prompts = source.training.iter().cycle().take(examples).cloned().collect();
    Ok(draw(source, &source.model.theta, prompts, seed, GENERATION, cancelled)?.examples(format))
}

/// What fine-tuning on some examples does to the metric.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The examples' rewards.
    pub rewards: Vec<f64>,
    /// The metric of the fine-tuned target.
    pub score: Score,
}

/// Rewards of examples and the metric after fine-tuning on them; `folder` takes states that memory cannot
/// hold, if there are any.
///
/// The target is trained on the text that would be published, tokenised anew: the ids that the
/// generator drew need not be those a user's tokenizer makes of it. An example without a scored
/// token (an empty text) has loss 0 for any weights, so its derivative is exactly 0.
pub fn score(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    draw: u64,
    folder: &Path,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Scored, Error> {
    score_showing(target, metric, examples, draw, folder, cancelled, |_| ())
}

/// The same; `show` sees the fine-tuned target's weights `[n]`.
pub fn score_showing(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    draw: u64,
    folder: &Path,
    cancelled: &(dyn Fn() -> bool + Sync),
    show: impl FnOnce(&Tensor<1>),
) -> Result<Scored, Error> {
    let (encoded, places) = trainable(target, examples)?;
    let batches = target.batches(&(0..encoded.len()).collect::<Vec<_>>(), draw);
    let weights = vec![1.0; encoded.len()];
    let sft = target.sft(&encoded, &weights, &batches, cancelled);
    let result = metagradient_showing(sft, metric, &Storage::fitting(&sft, folder), show)?;
    let mut rewards = vec![0.0; examples.len()];
    for (place, reward) in places.into_iter().zip(result.rewards) {
        rewards[place] = reward;
    }
    Ok(Scored { rewards, score: result.score })
}

/// The metric after fine-tuning on examples, without the walk back; also theta_T.
pub fn measure(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    draw: u64,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<(Score, Tensor<1>), Error> {
    measure_weighted(target, metric, examples, &vec![1.0; examples.len()], draw, cancelled)
}

/// The same with a weight for each example.
pub(crate) fn measure_weighted(
    target: &Target,
    metric: &dyn Metric,
    examples: &[Example],
    weights: &[f64],
    draw: u64,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<(Score, Tensor<1>), Error> {
    let (encoded, places) = trainable(target, examples)?;
    let batches = target.batches(&(0..encoded.len()).collect::<Vec<_>>(), draw);
    let weights: Vec<f64> = places.into_iter().map(|place| weights[place]).collect();
    let theta = target.sft(&encoded, &weights, &batches, cancelled).train()?;
    Ok((metric.score(&theta)?.finite()?, theta))
}

/// The examples that have a scored token, and their places.
pub(crate) fn trainable(
    target: &Target,
    examples: &[Example],
) -> Result<(Vec<dpg_models::Example>, Vec<usize>), Error> {
    let encoded = target.encode(examples)?.into_iter().zip(0..);
    Ok(encoded.filter(|(example, _)| example.scored_len() > 0).unzip())
}
