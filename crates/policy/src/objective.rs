//! The clipped objective of a few rollouts, as a loss to descend.
//!
//! ```text
//! J = (1/N) sum_tokens  min(q A, clip(q, 1-c, 1+c) A) - kl KL(pi || init) + entropy H(pi)
//! q = pi / pi_old of the drawn token
//! ```
//!
//! pi is the distribution that was sampled from: at the temperature, without the tokens that could not be
//! drawn (stop tokens before `min_new_tokens`, rows of the model that no token has). N counts the tokens of the whole minibatch (token mean).
//!
//! Departure from GRPO: KL and entropy are summed over the vocabulary at each drawn prefix, not
//! estimated from the drawn token. Descending the usual k3 estimate follows the gradient of
//! KL(init || pi), which lets pi put mass where the initial generator has none: word salad.

use std::ops::Range;

use burn::tensor::{Tensor, activation};
use dpg_models::{Completion, Place, Sampling, constant, kl_divergence, log_probs};

/// A prompt's completion with its advantage.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// What was drawn.
    pub completion: Completion,
    /// Its advantage.
    pub advantage: f64,
}

impl Rollout {
    fn tokens(&self) -> Vec<u32> {
        self.prompt.iter().chain(&self.completion.tokens).copied().collect()
    }

    /// Places of its completion, as row `row`.
    fn places(&self, row: usize) -> impl Iterator<Item = Place> {
        let columns = self.prompt.len()..self.prompt.len() + self.completion.tokens.len();
        columns.map(move |column| Place { row, column })
    }
}

/// The drawn tokens of some rollouts, one rollout after the other.
pub(crate) struct Drawn<'a> {
    sampling: &'a Sampling,
    /// Prompts with their completions.
    pub(crate) rows: Vec<Vec<u32>>,
    /// Where the tokens are in the rows.
    pub(crate) places: Vec<Place>,
    tokens: Vec<u32>,
    old: Vec<f64>,
    advantages: Vec<f64>,
    /// Whether stop tokens could not be drawn yet.
    early: Vec<bool>,
}

impl<'a> Drawn<'a> {
    pub(crate) fn new(rollouts: &[Rollout], sampling: &'a Sampling) -> Self {
        let rows = rollouts.iter().map(Rollout::tokens).collect();
        let mut drawn = Self {
            sampling,
            rows,
            places: vec![],
            tokens: vec![],
            old: vec![],
            advantages: vec![],
            early: vec![],
        };
        for (row, rollout) in rollouts.iter().enumerate() {
            let Completion { tokens, log_probs, .. } = &rollout.completion;
            drawn.places.extend(rollout.places(row));
            drawn.tokens.extend(tokens);
            drawn.old.extend(log_probs);
            drawn.advantages.extend(std::iter::repeat_n(rollout.advantage, tokens.len()));
            drawn.early.extend((0..tokens.len()).map(|place| place < sampling.min_new_tokens));
        }
        drawn
    }

    /// Logits of the distribution that some of them were drawn from, `[tokens, vocab]`, of a model's logits.
    pub(crate) fn distribution(&self, part: Range<usize>, logits: Tensor<2>) -> Tensor<2> {
        let temperature = self.sampling.temperature;
        // a product with 1 would pass over all logits, and again on the way back
        let logits = if temperature == 1.0 { logits } else { logits.mul_scalar(1.0 / temperature) };
        match self.forbidden(part, &logits) {
            None => logits,
            Some(forbidden) => logits + forbidden,
        }
    }

    /// Very negative where a token could not be drawn, `[tokens, vocab]` or `[1, vocab]`.
    fn forbidden(&self, part: Range<usize>, logits: &Tensor<2>) -> Option<Tensor<2>> {
        const MASKED: f64 = -1e9;
        let Sampling { min_new_tokens, stop, never, .. } = self.sampling;
        let vocab = logits.dims()[1];
        let row = |ids: &[u32]| {
            let mut row = vec![0.0; vocab];
            for &id in ids {
                // a tokenizer may know more tokens than its model
                if let Some(logit) = row.get_mut(id as usize) {
                    *logit = MASKED;
                }
            }
            constant(row, [1, vocab], logits)
        };
        let stop = (*min_new_tokens > 0 && !stop.is_empty()).then(|| {
            let early: Vec<f64> = self.early[part].iter().map(|&early| f64::from(u8::from(early))).collect();
            let n = early.len();
            constant(early, [n, 1], logits) * row(stop)
        });
        let never = (!never.is_empty()).then(|| row(never));
        match (stop, never) {
            (Some(stop), Some(never)) => Some(stop + never),
            (stop, never) => stop.or(never),
        }
    }

    /// What the objective is made of, of some tokens, their logits of pi and those of the initial generator.
    pub(crate) fn numbers(&self, part: Range<usize>, pi: Tensor<2>, initial: Option<&Tensor<2>>) -> Numbers {
        let n = part.len();
        Numbers {
            log_probs: log_probs(&pi, &self.tokens[part.clone()]),
            old: constant(self.old[part.clone()].to_vec(), [n], &pi),
            advantages: constant(self.advantages[part].to_vec(), [n], &pi),
            kl: initial.map(|initial| kl_divergence(&pi, initial)),
            logits: pi,
        }
    }
}

/// Numbers of some tokens, `[tokens]` each but for the logits.
pub(crate) struct Numbers {
    /// Logits of pi, `[tokens, vocab]`.
    pub(crate) logits: Tensor<2>,
    /// log pi.
    pub(crate) log_probs: Tensor<1>,
    /// log pi_old.
    pub(crate) old: Tensor<1>,
    advantages: Tensor<1>,
    /// KL(pi || init), if it counts.
    pub(crate) kl: Option<Tensor<1>>,
}

/// Coefficients of the objective at one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coefficients {
    pub(crate) clip: f64,
    pub(crate) kl: f64,
    pub(crate) entropy: f64,
}

/// Entropy of each row of logits `[n, vocab]`, `[n]`.
fn entropy(logits: &Tensor<2>) -> Tensor<1> {
    let log = activation::log_softmax(logits.clone(), 1);
    (log.clone().exp() * log).sum_dim(1).squeeze_dim::<1>(1).neg()
}

/// Minus the objective, summed over tokens and divided by `count`.
pub(crate) fn loss(numbers: &Numbers, coefficients: Coefficients, count: f64) -> Tensor<1> {
    let Numbers { logits, log_probs, old, advantages, kl } = numbers;
    let ratio = (log_probs.clone() - old.clone()).exp();
    // min(q A, clip(q) A) by the sign of A, which is a constant
    let gain = ratio.clone().clamp_max(1.0 + coefficients.clip) * advantages.clone().clamp_min(0.0)
        + ratio.clamp_min(1.0 - coefficients.clip) * advantages.clone().clamp_max(0.0);
    let mut objective = gain.sum();
    if let Some(kl) = kl {
        objective = objective - kl.clone().sum() * coefficients.kl;
    }
    if coefficients.entropy > 0.0 {
        objective = objective + entropy(logits).sum() * coefficients.entropy;
    }
    objective * (-1.0 / count)
}

#[cfg(test)]
pub(crate) mod tests;
