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

use burn::tensor::{Tensor, activation};
use dpg_models::{CausalLm, Completion, Params, Place, Sampling, kl_divergence, log_probs, logits_at};

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

/// Numbers of the drawn tokens of some rollouts, one rollout after the other: `[tokens]` each.
pub(crate) struct Tokens {
    /// Logits of pi, `[tokens, vocab]`.
    pub(crate) logits: Tensor<2>,
    /// log pi.
    pub(crate) log_probs: Tensor<1>,
    /// log pi_old.
    pub(crate) old: Tensor<1>,
    /// Advantages.
    pub(crate) advantage: Tensor<1>,
}

/// Runs the model over rollouts.
pub(crate) fn forward(
    lm: &dyn CausalLm,
    params: &Params,
    rollouts: &[Rollout],
    sampling: &Sampling,
) -> Tokens {
    let rows: Vec<Vec<u32>> = rollouts.iter().map(Rollout::tokens).collect();
    let places: Vec<Place> =
        rollouts.iter().enumerate().flat_map(|(row, rollout)| rollout.places(row)).collect();
    let logits = logits_at(lm, params, &rows, &places);
    // a product with 1 would pass over all logits, and again on the way back
    let logits = if sampling.temperature == 1.0 { logits } else { logits.scale(1.0 / sampling.temperature) };
    let logits = match forbidden(params, rollouts, sampling, lm.vocab_size()) {
        None => logits,
        Some(forbidden) => logits.add_constant(forbidden),
    };
    let tokens = rollouts.iter().flat_map(|rollout| rollout.completion.tokens.clone()).collect();
    let old: Vec<f64> = rollouts.iter().flat_map(|rollout| rollout.completion.log_probs.clone()).collect();
    let advantage = rollouts
        .iter()
        .flat_map(|rollout| std::iter::repeat_n(rollout.advantage, rollout.completion.tokens.len()));
    let n = places.len();
    Tokens {
        logits: logits.primal.clone(),
        log_probs: log_probs(params, logits, tokens).primal,
        old: params.constant(old, [n]),
        advantage: params.constant(advantage.collect(), [n]),
    }
}

/// Very negative where a token could not be drawn, `[tokens, vocab]` or `[1, vocab]`.
fn forbidden(params: &Params, rollouts: &[Rollout], sampling: &Sampling, vocab: usize) -> Option<Tensor<2>> {
    const MASKED: f64 = -1e9;
    let row = |ids: &[u32]| {
        let mut row = vec![0.0; vocab];
        for &id in ids {
            // a tokenizer may know more tokens than its model
            if let Some(logit) = row.get_mut(id as usize) {
                *logit = MASKED;
            }
        }
        params.constant(row, [1, vocab])
    };
    let early = sampling.min_new_tokens > 0 && !sampling.stop.is_empty();
    let stop = early.then(|| {
        let places = rollouts.iter().flat_map(|rollout| 0..rollout.completion.tokens.len());
        let early = places.map(|place| if place < sampling.min_new_tokens { 1.0 } else { 0.0 });
        let early: Vec<f64> = early.collect();
        let n = early.len();
        params.constant(early, [n, 1]) * row(&sampling.stop)
    });
    let never = (!sampling.never.is_empty()).then(|| row(&sampling.never));
    match (stop, never) {
        (Some(stop), Some(never)) => Some(stop + never),
        (stop, never) => stop.or(never),
    }
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

/// Minus the objective, summed over tokens and divided by `count`; `initial` holds the logits of the
/// initial generator.
pub(crate) fn loss(
    tokens: &Tokens,
    initial: Option<&Tensor<2>>,
    coefficients: Coefficients,
    count: f64,
) -> Tensor<1> {
    let ratio = (tokens.log_probs.clone() - tokens.old.clone()).exp();
    // min(q A, clip(q) A) by the sign of A, which is a constant
    let gain = ratio.clone().clamp_max(1.0 + coefficients.clip) * tokens.advantage.clone().clamp_min(0.0)
        + ratio.clamp_min(1.0 - coefficients.clip) * tokens.advantage.clone().clamp_max(0.0);
    let mut objective = gain.sum();
    if let Some(initial) = initial {
        objective = objective - kl_divergence(&tokens.logits, initial).sum() * coefficients.kl;
    }
    if coefficients.entropy > 0.0 {
        objective = objective + entropy(&tokens.logits).sum() * coefficients.entropy;
    }
    objective * (-1.0 / count)
}

#[cfg(test)]
pub(crate) mod tests;
