//! Times of the engine's parts, as medians over rounds.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use dpg_metagrad::{Sft, State, Storage, metagradient, metrics::WeightNorm, optimizers};
use dpg_models::{CausalLm, Example, Params, Sampling, log_probs_at, places, sample};
use dpg_policy::{Policy, Rollout, update};
use dpg_spec as spec;
use serde::Serialize;

use crate::Shape;

/// Median seconds of the engine's parts at a shape.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The matrix products of one forward pass alone.
    pub forward_products: f64,
    /// A forward pass in dual numbers.
    pub dual_forward: f64,
    /// The same with the backward pass of its tangents: rewards and Hessian-vector product.
    pub fused_pass: f64,
    /// Plain fine-tuning of T steps: (T, seconds).
    pub plain: Vec<(usize, f64)>,
    /// A whole metagradient run of T steps.
    pub metagradient: Vec<(usize, f64)>,
    /// Tokens a second of batched sampling: four batches of rows, half a sequence each.
    pub sampled_tokens_per_second: f64,
    /// One update of the policy on a batch of rollouts.
    pub policy_update: f64,
    /// Largest resident memory of the process, bytes.
    pub peak_memory: u64,
}

/// Runs everything at a shape, for plain and metagradient runs of `steps` steps.
///
/// # Panics
/// If the engine refuses the shape.
pub fn measure(shape: &Shape, device: &Device, steps: &[usize], rounds: usize) -> Measured {
    let lm = shape.model();
    let lm = lm.as_ref();
    let theta = shape.weights(lm, device);
    let examples = shape.examples(shape.batch);
    let runs: Vec<(usize, f64, f64)> = steps
        .iter()
        .map(|&steps| {
            let (plain, whole) = runs(shape, lm, &theta, steps, rounds);
            (steps, plain, whole)
        })
        .collect();
    let direction = theta.clone() * 0.01;
    let (sampled_tokens_per_second, policy_update) = generation(shape, lm, &theta, rounds);
    Measured {
        forward_products: median((0..=rounds).map(|_| products(shape, device)).skip(1)),
        dual_forward: timed(rounds, || {
            let params = Params::new(lm.layout(), &theta).with_tangent(lm.layout(), &direction);
            tangents(lm, &params, &examples).to_data();
        }),
        fused_pass: timed(rounds, || {
            let params = Params::tracked(lm.layout(), &theta).with_tangent(lm.layout(), &direction);
            params.gradient(&tangents(lm, &params, &examples).mean().backward()).to_data();
        }),
        plain: runs.iter().map(|&(steps, plain, _)| (steps, plain)).collect(),
        metagradient: runs.iter().map(|&(steps, _, whole)| (steps, whole)).collect(),
        sampled_tokens_per_second,
        policy_update,
        peak_memory: peak_memory(),
    }
}

/// Seconds of plain fine-tuning and of a metagradient run of the same steps, measured in turn.
fn runs(shape: &Shape, lm: &dyn CausalLm, theta: &Tensor<1>, steps: usize, rounds: usize) -> (f64, f64) {
    let head = spec::WeightNorm { parameter: spec::Parameters::One(spec::NamedParameter::lm_head()) };
    let metric = WeightNorm::new(&head, lm).expect("the model has a head");
    let optimizer = optimizers::from_spec(spec::Optimizer::Adamw(spec::AdamW::default()));
    let examples = shape.examples(steps * shape.batch);
    let order: Vec<usize> = (0..examples.len()).collect();
    let batches: Vec<Vec<usize>> = order.chunks(shape.batch).map(<[usize]>::to_vec).collect();
    let weights = vec![1.0; examples.len()];
    let sft = Sft {
        lm,
        theta,
        examples: &examples,
        weights: &weights,
        batches: &batches,
        optimizer: optimizer.as_ref(),
        microbatch: shape.batch,
        cancelled: &|| false,
    };
    let times: Vec<(f64, f64)> = (0..=rounds)
        .map(|_| {
            let plain = seconds(|| drop(sft.train().expect("plain fine-tuning").to_data()));
            let storage = Storage::default();
            let whole = seconds(|| drop(metagradient(sft, &metric, &storage).expect("a metagradient run")));
            (plain, whole)
        })
        .skip(1)
        .collect();
    (median(times.iter().map(|time| time.0)), median(times.iter().map(|time| time.1)))
}

/// Log-probabilities' tangents of all tokens.
fn tangents(lm: &dyn CausalLm, params: &Params, examples: &[Example]) -> Tensor<1> {
    log_probs_at(lm, params, examples, &places(examples)).tangent.expect("the leaves have tangents")
}

/// Tokens a second of sampling, and seconds of a policy update on what was sampled.
fn generation(shape: &Shape, lm: &dyn CausalLm, theta: &Tensor<1>, rounds: usize) -> (f64, f64) {
    let half = shape.sequence / 2;
    let sampling = Sampling {
        temperature: 1.0,
        min_new_tokens: 0,
        max_new_tokens: half,
        stop: vec![],
        seed: 0,
        step: 0,
        batch: 1024,
    };
    let prompts: Vec<Vec<u32>> =
        shape.examples(4 * shape.batch).into_iter().map(|text| text.tokens[..half].to_vec()).collect();
    let draw = || sample(lm, theta, &prompts, &sampling).expect("the prompts fit");
    let drawing = timed(rounds, || drop(draw()));
    let completions = draw().into_iter().take(shape.batch);
    let rollouts: Vec<Rollout> = completions
        .zip(&prompts)
        .enumerate()
        .map(|(i, (completion, prompt))| Rollout {
            prompt: prompt.clone(),
            completion,
            advantage: if i % 2 == 0 { 1.0 } else { -1.0 },
        })
        .collect();
    let settings = spec::Policy { kl: 0.05, ..spec::Policy::default() };
    let policy = Policy { lm, initial: theta, settings: &settings, microbatch: shape.batch };
    let state = State::new(theta.clone(), &spec::AdamW::default());
    let updating = timed(rounds, || {
        update(&policy, state.clone(), 0, 0, &rollouts, &sampling).expect("an update");
    });
    ((4 * shape.batch * half) as f64 / drawing, updating)
}

/// Seconds of the matrix products of one forward pass alone.
fn products(shape: &Shape, device: &Device) -> f64 {
    let mut total = 0.0;
    for (count, [m, k, n]) in shape.products() {
        // the many products of attention are one batched product
        let (repeats, batch) =
            if count > shape.layers { (shape.layers, count / shape.layers) } else { (count, 1) };
        let a = Tensor::<3>::ones([batch, m, k], device);
        let b = Tensor::<3>::ones([batch, k, n], device);
        total += repeats as f64 * seconds(|| drop(a.matmul(b).to_data()));
    }
    total
}

/// Median seconds over `rounds`, after one that warms up.
fn timed(rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    median((0..rounds).map(|_| seconds(&mut work)))
}

/// Seconds that some work takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The middle value.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Largest resident memory so far, bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
