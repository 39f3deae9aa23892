//! Exact metagradients: the derivative of a metric after fine-tuning with respect to the weight of
//! every example, through every optimizer step (arXiv 2604.08423, section 3).
//!
//! With Phi the metric, theta_T the fine-tuned weights and w_i the weight of example i, the reward is
//!
//! ```text
//! r_i = dPhi(theta_T) / dw_i    at w = 1.
//! ```
//!
//! [`metagradient`] walks the inner run backwards with the adjoints of the optimizer's state. At
//! each step it pulls them through the optimizer in closed form, which yields u = dPhi/dg_t; one
//! forward pass in dual numbers along u gives all s_i = <grad l_i, u>, hence the rewards, and one
//! backward pass of their mean gives the Hessian-vector product that carries the adjoint on.
//!
//! ```
//! use burn::tensor::Device;
//! use dpg_metagrad::{Error, Metric, Sft, Storage, metagradient};
//! use dpg_models::{Example, Model};
//!
//! /// The rewards of examples on which a model is fine-tuned for one step.
//! fn rewards(model: &Model, examples: &[Example], metric: &dyn Metric) -> Result<Vec<f64>, Error> {
//!     let sft = Sft {
//!         lm: model.lm.as_ref(),
//!         theta: &model.theta,
//!         examples,
//!         weights: &vec![1.0; examples.len()],
//!         batches: &[(0..examples.len()).collect()],
//!         recipe: &dpg_spec::Sft::default(),
//!         microbatch: 8,
//!         devices: &[Device::flex()],
//!         cancelled: &|| false,
//!     };
//!     Ok(metagradient(sft, metric, &Storage::default())?.rewards)
//! }
//! ```
//!
//! A run of one step whose batch passes at once needs no dual pass: its way there leaves what each linear
//! layer was given and what came back to it, and s_i is a product of both with u
//! ([`Trace`](dpg_models::Trace)).
//!
//! Departure from the paper's code, which recomputes each step under reverse-over-reverse autodiff
//! and takes the s_i in a further pass (14 forward passes a step): gradients are kept and the passes
//! fused, 8 forward passes a step, 3 at the first, and from traces 1 and the head's again.

#[cfg(test)]
mod accuracy;
mod error;
mod forward;
mod loss;
pub mod metrics;
mod packing;
mod storage;
mod tape;

use std::sync::Arc;

use burn::tensor::Tensor;

pub use dpg_optim::State;
pub use error::{Error, ProgramFailure};
pub use forward::Sft;
pub use metrics::{Context, Metric, Program, Score};
pub use packing::pack;
pub use storage::{Bytes, Storage};

/// The result of [`metagradient`].
#[derive(Clone, Debug)]
pub struct Metagradient {
    /// r_i of every example, in dataset order.
    pub rewards: Vec<f64>,
    /// The metric of the fine-tuned weights.
    pub score: Score,
}

/// Fine-tunes, measures, and returns the exact reward of every example.
///
/// # Errors
/// Any NaN or infinity met on the way is [`Error::NotFinite`]: no reward is made up.
pub fn metagradient(sft: Sft, metric: &dyn Metric, storage: &Storage) -> Result<Metagradient, Error> {
    metagradient_showing(sft, metric, storage, |_| ())
}

/// The same; `show` sees the fine-tuned weights theta_T `[n]`, which the walk back does not keep.
pub fn metagradient_showing(
    sft: Sft,
    metric: &dyn Metric,
    storage: &Storage,
    show: impl FnOnce(&Tensor<1>),
) -> Result<Metagradient, Error> {
    walk(sft, metric, storage, show, |_, _| ())
}

/// The same with a reward for each token of an example: what its prediction has of the example's reward, 0 for a
/// token that is not scored. There are no traces, which have none for tokens.
pub fn metagradient_by_token(
    sft: Sft,
    metric: &dyn Metric,
    storage: &Storage,
    show: impl FnOnce(&Tensor<1>),
) -> Result<(Metagradient, Vec<Vec<f64>>), Error> {
    let mut tokens: Vec<Vec<f64>> =
        sft.examples.iter().map(|example| vec![0.0; example.tokens.len()]).collect();
    let storage = Storage { traces: false, ..storage.clone() };
    let found = walk(sft, metric, &storage, show, |t, by_token| {
        let (batch, share) = (&sft.batches[t], sft.share(t));
        for (&example, tangents) in batch.iter().zip(by_token) {
            for (reward, s) in tokens[example].iter_mut().zip(tangents) {
                *reward += share(example, *s);
            }
        }
    })?;
    Ok((found, tokens))
}

/// The same for each of several metrics, with one run and a walk back from each; where the run does not fit in memory
/// as a whole, with a run for each. While there are walks to come, gradients and theta_T stay, another 2 P.
///
/// # Errors
/// Those of [`metagradient`].
pub fn metagradients(
    sft: Sft,
    metrics: &[Arc<dyn Metric>],
    storage: &Storage,
) -> Result<Vec<Metagradient>, Error> {
    sft.check()?;
    let Some((last, others)) = metrics.split_last() else { return Ok(vec![]) };
    let (mut tape, mut theta) = tape::Tape::record(sft, storage)?;
    let mut found = Vec::with_capacity(metrics.len());
    for metric in others {
        let (next, end) = match tape.again() {
            Some(tape) => (tape, theta.clone()),
            None => tape::Tape::record(sft, storage)?,
        };
        found.push(back(sft, (tape, theta), metric.as_ref(), storage, |_| (), |_, _| ())?);
        (tape, theta) = (next, end);
    }
    found.push(back(sft, (tape, theta), last.as_ref(), storage, |_| (), |_, _| ())?);
    Ok(found)
}

/// The run and the walk back; `beside` sees what each token of a step's batch has of its example's derivative along u, from
/// the last step to the first, but for a step that left traces.
fn walk(
    sft: Sft,
    metric: &dyn Metric,
    storage: &Storage,
    show: impl FnOnce(&Tensor<1>),
    beside: impl FnMut(usize, &[Vec<f64>]),
) -> Result<Metagradient, Error> {
    sft.check()?;
    back(sft, tape::Tape::record(sft, storage)?, metric, storage, show, beside)
}

/// The walk back from the end of a recorded run.
fn back(
    sft: Sft,
    (mut tape, theta): (tape::Tape, Tensor<1>),
    metric: &dyn Metric,
    storage: &Storage,
    show: impl FnOnce(&Tensor<1>),
    mut beside: impl FnMut(usize, &[Vec<f64>]),
) -> Result<Metagradient, Error> {
    let context = Context { scratch: &storage.scratch, stop: sft.cancelled };
    let (score, gradient) = metric.score_and_gradient(&theta, context)?;
    let score = score.finite()?;
    show(&theta);
    drop(theta);

    let mut adjoint = State::new(gradient);
    let mut rewards = vec![0.0; sft.examples.len()];
    for (t, batch) in sft.batches.iter().enumerate().rev() {
        let (before, (tangents, curvature)) = tape.back(t, adjoint, |theta, u, traces| {
            if !traces.is_empty() {
                return Ok((sft.traced_tangents(traces, &theta, &u)?, None));
            }
            let (by_token, curvature) = sft.tangents(t, &theta, &u, t > 0)?;
            beside(t, &by_token);
            Ok((loss::of_examples(&by_token), curvature))
        })?;
        let share = sft.share(t);
        for (&example, s) in batch.iter().zip(tangents) {
            if !s.is_finite() {
                return Err(Error::NotFinite { what: "a reward", step: Some(t) });
            }
            rewards[example] += share(example, s);
        }
        adjoint = before;
        if let Some(curvature) = curvature {
            adjoint.theta = curvature.onto(adjoint.theta);
        }
    }
    Ok(Metagradient { rewards, score })
}
