//! The clipped objective of a few rollouts, as a loss to descend.
//!
//! ```text
//! J = (1/N) sum_tokens  min(q A, clip(q, 1-c, 1+c) A) - kl KL(pi || init) + entropy H(pi)
//! q = pi / pi_old of the drawn token
//! ```
//!
//! pi is the distribution that was sampled from: at the temperature, without stop tokens before
//! `min_new_tokens`. N counts the tokens of the whole minibatch (token mean).
//!
//! Departure from GRPO: KL and entropy are summed over the vocabulary at each drawn prefix, not
//! estimated from the drawn token. Descending the usual k3 estimate follows the gradient of
//! KL(init || pi), which lets pi put mass where the initial generator has none: word salad.

use burn::tensor::{Tensor, activation};
use dpg_models::{CausalLm, Completion, Params, Sampling, chosen_log_probs, next_token_logits};

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

    /// Columns of next-token predictions that are its completion.
    fn columns(&self) -> std::ops::Range<usize> {
        let first = self.prompt.len() - 1;
        first..first + self.completion.tokens.len()
    }
}

/// Per-token numbers of some rollouts, `[batch, columns]`.
pub(crate) struct Tokens {
    /// log pi of the drawn tokens.
    pub(crate) log_probs: Tensor<2>,
    /// log pi of every token, `[batch, columns, vocab]`, if asked for.
    pub(crate) distribution: Option<Tensor<3>>,
    /// 1 on completions, 0 elsewhere.
    pub(crate) mask: Tensor<2>,
    /// log pi_old, 0 elsewhere.
    pub(crate) old: Tensor<2>,
    /// The advantage on completions, 0 elsewhere.
    pub(crate) advantage: Tensor<2>,
}

/// Runs the model over rollouts.
pub(crate) fn forward(
    lm: &dyn CausalLm,
    params: &Params,
    rollouts: &[Rollout],
    sampling: &Sampling,
    with_distribution: bool,
) -> Tokens {
    let rows: Vec<Vec<u32>> = rollouts.iter().map(Rollout::tokens).collect();
    let logits = next_token_logits(lm, params, &rows).scale(1.0 / sampling.temperature);
    let [batch, columns, vocab] = logits.dims();
    let logits = match forbidden(params, rollouts, sampling, [batch, columns, vocab]) {
        None => logits,
        Some(forbidden) => logits.add_constant(forbidden),
    };
    let distribution = with_distribution.then(|| activation::log_softmax(logits.primal.clone(), 2));
    let log_probs = chosen_log_probs(params, logits, &rows).primal;
    let on_completions = |value: &dyn Fn(&Rollout, usize) -> f64| {
        let mut values = vec![0.0; batch * columns];
        for (row, rollout) in rollouts.iter().enumerate() {
            for (token, column) in rollout.columns().enumerate() {
                values[row * columns + column] = value(rollout, token);
            }
        }
        params.constant(values, [batch, columns])
    };
    Tokens {
        log_probs,
        distribution,
        mask: on_completions(&|_, _| 1.0),
        old: on_completions(&|rollout, token| rollout.completion.log_probs[token]),
        advantage: on_completions(&|rollout, _| rollout.advantage),
    }
}

/// Very negative where a stop token could not be drawn, `[batch, columns, vocab]`.
fn forbidden(
    params: &Params,
    rollouts: &[Rollout],
    sampling: &Sampling,
    [batch, columns, vocab]: [usize; 3],
) -> Option<Tensor<3>> {
    const MASKED: f64 = -1e9;
    if sampling.min_new_tokens == 0 || sampling.stop.is_empty() {
        return None;
    }
    let mut early = vec![0.0; batch * columns];
    for (row, rollout) in rollouts.iter().enumerate() {
        for column in rollout.columns().take(sampling.min_new_tokens) {
            early[row * columns + column] = MASKED;
        }
    }
    let mut stop = vec![0.0; vocab];
    for &id in &sampling.stop {
        stop[id as usize] = 1.0;
    }
    Some(params.constant(early, [batch, columns, 1]) * params.constant(stop, [1, 1, vocab]))
}

/// Coefficients of the objective at one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coefficients {
    pub(crate) clip: f64,
    pub(crate) kl: f64,
    pub(crate) entropy: f64,
}

/// KL(pi || init) at every drawn prefix, `[batch, columns]`, from two log distributions.
pub(crate) fn divergence(pi: &Tensor<3>, initial: &Tensor<3>) -> Tensor<2> {
    (pi.clone().exp() * (pi.clone() - initial.clone())).sum_dim(2).squeeze_dim(2)
}

fn entropy(pi: &Tensor<3>) -> Tensor<2> {
    (pi.clone().exp() * pi.clone()).sum_dim(2).squeeze_dim::<2>(2).neg()
}

/// Minus the objective, summed over tokens and divided by `count`; `initial` is the log
/// distribution of the initial generator.
pub(crate) fn loss(
    tokens: &Tokens,
    initial: Option<&Tensor<3>>,
    coefficients: Coefficients,
    count: f64,
) -> Tensor<1> {
    let difference = (tokens.log_probs.clone() - tokens.old.clone()) * tokens.mask.clone();
    let ratio = difference.exp();
    // min(q A, clip(q) A) by the sign of A, which is a constant
    let gain = ratio.clone().clamp_max(1.0 + coefficients.clip) * tokens.advantage.clone().clamp_min(0.0)
        + ratio.clamp_min(1.0 - coefficients.clip) * tokens.advantage.clone().clamp_max(0.0);
    let mut objective = gain.sum();
    if let (Some(pi), Some(initial)) = (&tokens.distribution, initial) {
        objective = objective - (divergence(pi, initial) * tokens.mask.clone()).sum() * coefficients.kl;
    }
    if let (Some(pi), true) = (&tokens.distribution, coefficients.entropy > 0.0) {
        objective = objective + (entropy(pi) * tokens.mask.clone()).sum() * coefficients.entropy;
    }
    objective * (-1.0 / count)
}

#[cfg(test)]
pub(crate) mod tests;
