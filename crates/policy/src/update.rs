//! One policy update: a pass of minibatches, one AdamW step each.

use burn::tensor::{Device, Tensor};
use dpg_models::{CausalLm, LeafGradients, Logits, MatmulPrecision, Objective, Params, Sampling, device};
use dpg_optim::{Optimizer, Run, State};
use dpg_spec::AdamW;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Rollout,
    objective::{Coefficients, Drawn, Numbers, loss},
};

/// The generator under training.
#[derive(Clone)]
pub struct Policy<'a> {
    /// The architecture.
    pub lm: &'a dyn CausalLm,
    /// Its initial weights `[n]`, which the KL term holds it to.
    pub initial: &'a Tensor<1>,
    /// Settings of the spec.
    pub settings: &'a dpg_spec::Policy,
    /// Rows that pass through the model together; bounds memory.
    pub microbatch: usize,
    /// What shares the rollouts of every minibatch, at least one.
    pub devices: &'a [Device],
}

/// What an update did; means are over tokens unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateStats {
    /// KL(policy || initial generator); 0 without a KL term.
    pub kl: f64,
    /// Minus the mean log-probability of the drawn tokens: an estimate of the entropy, in nats.
    pub entropy: f64,
    /// Share of tokens whose ratio left [1 - clip, 1 + clip].
    pub clip_fraction: f64,
    /// Largest l2 norm of a minibatch's gradient before it was bounded.
    pub gradient_norm: f64,
    /// Largest difference between a sampled log-probability and the training forward's.
    pub log_prob_gap: f64,
}

impl UpdateStats {
    /// Adds the figures of some other rollouts.
    fn add(&mut self, part: &Self) {
        self.kl += part.kl;
        self.entropy += part.entropy;
        self.clip_fraction += part.clip_fraction;
        self.widen_gap(part.log_prob_gap);
    }

    fn widen_gap(&mut self, gap: f64) {
        // not f64::max, which would drop a NaN
        if gap.is_nan() || gap > self.log_prob_gap {
            self.log_prob_gap = gap;
        }
    }
}

/// How far log-probabilities of decoding and of the training forward may be apart. In single precision
/// they agree to about 1e-5; a real bug shows as more.
fn log_prob_tolerance(precision: MatmulPrecision) -> f64 {
    match precision {
        MatmulPrecision::F32 => 5e-3,
        MatmulPrecision::Tf32 => 2e-2,
        MatmulPrecision::Bf16 => 1e-1,
    }
}

/// What steps are made with.
pub(crate) fn optimizer(settings: &dpg_spec::Policy) -> AdamW {
    AdamW {
        learning_rate: settings.learning_rate,
        betas: settings.betas,
        eps: 1e-8,
        eps_root: 0.0,
        weight_decay: settings.weight_decay,
    }
}

/// Rollouts of a minibatch, of so many in a step.
pub(crate) fn minibatch(settings: &dpg_spec::Policy, rollouts: usize) -> usize {
    settings.minibatch_prompts.map_or(rollouts, |prompts| prompts * settings.group_size)
}

/// Updates `state` (weights and AdamW moments of the generator, `applied` optimizer steps old) on
/// a step's rollouts, which are group after group.
pub fn update(
    policy: &Policy,
    mut state: State,
    mut applied: usize,
    rollouts: &[Rollout],
    sampling: &Sampling,
) -> Result<(State, usize, UpdateStats), Error> {
    let settings = policy.settings;
    let optimizer = optimizer(settings);
    let rows = minibatch(settings, rollouts.len());
    let mut report = UpdateStats::default();
    let all_tokens = token_count(rollouts);
    for (minibatch, chunk) in rollouts.chunks(rows).enumerate() {
        let count = token_count(chunk);
        let parts = device::map(policy.devices, chunk, |device, part| {
            let [theta, initial] =
                [&state.theta, policy.initial].map(|theta| theta.clone().to_device(device));
            let mut report = UpdateStats::default();
            let mut gradient: Option<LeafGradients> = None;
            for part in part.chunks(policy.microbatch) {
                let drawn = Drawn::new(part, sampling);
                let params = Params::trained(policy.lm.layout(), &theta);
                let objective = descent(policy, &drawn, &params, &initial, count, |numbers| {
                    measure(&mut report, numbers, settings.clip, all_tokens, minibatch == 0);
                });
                gradient = sum(gradient, Some(params.leaf_gradients(objective.backward())));
            }
            (gradient, report)
        });
        let mut gradient = None;
        for (of_part, part) in parts {
            let device = state.theta.device();
            gradient = sum(gradient, of_part.map(|leaves| leaves.to_device(&device)));
            report.add(&part);
        }
        let mut gradient = gradient.expect("a minibatch has rollouts").flat(&state.theta);
        let tolerance = log_prob_tolerance(policy.lm.precision());
        if report.log_prob_gap.is_nan() || report.log_prob_gap > tolerance {
            return Err(Error::LogProbGap { gap: report.log_prob_gap, tolerance });
        }
        let norm = (gradient.clone() * gradient.clone()).sum().into_scalar::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(Error::Diverged { what: format!("the gradient's norm is {norm}") });
        }
        report.gradient_norm = report.gradient_norm.max(norm);
        if settings.max_grad_norm > 0.0 && norm > settings.max_grad_norm {
            gradient = gradient * (settings.max_grad_norm / norm);
        }
        state = optimizer.step(&Run::constant(policy.lm.layout()), applied, state, &gradient);
        applied += 1;
    }
    Ok((state, applied, report))
}

fn sum(a: Option<LeafGradients>, b: Option<LeafGradients>) -> Option<LeafGradients> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.and(b)),
        (a, b) => a.or(b),
    }
}

fn token_count(rollouts: &[Rollout]) -> f64 {
    rollouts.iter().map(|rollout| rollout.completion.tokens.len()).sum::<usize>() as f64
}

/// Minus the objective, a mean over `count` tokens, of some that were drawn; `see` is shown what it is made of, chunk by chunk.
fn descent(
    policy: &Policy,
    drawn: &Drawn,
    params: &Params,
    initial: &Tensor<1>,
    count: f64,
    mut see: impl FnMut(&Numbers),
) -> Objective {
    let settings = policy.settings;
    let coefficients = Coefficients { clip: settings.clip, kl: settings.kl, entropy: settings.entropy };
    let logits = |params: &Params| Logits::at(policy.lm, params, &drawn.rows, &drawn.places);
    let initial = (settings.kl > 0.0).then(|| logits(&Params::new(policy.lm.layout(), initial)));
    logits(params).sum(|part, pi| {
        let distribution = |logits| drawn.distribution(part.clone(), logits);
        let initial = initial.as_ref().map(|initial| distribution(initial.of(part.clone())).autodiff());
        let numbers = drawn.numbers(part.clone(), distribution(pi), initial.as_ref());
        see(&numbers);
        loss(&numbers, coefficients, count)
    })
}

/// Adds a part's figures to the report. The first minibatch sees the weights that were sampled
/// from, so its log-probabilities must be the sampler's.
fn measure(report: &mut UpdateStats, numbers: &Numbers, clip: f64, all_tokens: f64, unchanged: bool) {
    let host = |tensor: Tensor<1>| tensor.inner().to_data_as::<f64>().iter::<f64>().collect::<Vec<_>>();
    let (log_probs, old) = (host(numbers.log_probs.clone()), host(numbers.old.clone()));
    if let Some(kl) = &numbers.kl {
        report.kl += host(kl.clone()).iter().sum::<f64>() / all_tokens;
    }
    for (log_prob, old) in log_probs.into_iter().zip(old) {
        let difference = log_prob - old;
        report.entropy -= old / all_tokens;
        if (difference.exp() - 1.0).abs() > clip {
            report.clip_fraction += 1.0 / all_tokens;
        }
        if unchanged {
            report.widen_gap(difference.abs());
        }
    }
}

#[cfg(test)]
mod tests;
