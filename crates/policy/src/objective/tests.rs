use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_models::{CausalLm, Logits, Params, architecture, keyed_rng, logits_at, sample, weights};
use rand::RngExt;

use super::*;

pub(crate) fn model(dtype: DType) -> (Box<dyn CausalLm>, Tensor<1>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/llama");
    let lm = architecture(&folder).unwrap();
    let theta = weights::load::<f64>(&folder, lm.layout()).unwrap();
    let theta = Tensor::<1>::from_data(theta.as_slice(), (&Device::flex(), DType::F64)).cast(dtype);
    (lm, theta)
}

pub(crate) fn sampling() -> Sampling {
    Sampling {
        temperature: 0.9,
        min_new_tokens: 2,
        max_new_tokens: 6,
        stop: (0..12).collect(),
        never: vec![],
        seed: 3,
        step: 0,
        devices: vec![Device::flex()],
        batch: 16,
    }
}

/// Rollouts of prompts of different lengths with advantages of both signs.
pub(crate) fn rollouts(lm: &dyn CausalLm, theta: &Tensor<1>, count: usize) -> Vec<Rollout> {
    let mut rng = keyed_rng([6, 0, 0, 0]);
    let mut prompt = |_| (0..rng.random_range(1..5)).map(|_| rng.random_range(0..64)).collect::<Vec<u32>>();
    let prompts: Vec<Vec<u32>> = (0..count).map(&mut prompt).collect();
    let completions = sample(lm, theta, &prompts, &sampling()).unwrap();
    let parts = prompts.into_iter().zip(completions).enumerate();
    parts
        .map(|(i, (prompt, completion))| Rollout {
            prompt,
            completion,
            advantage: if i % 2 == 0 { 1.0 + i as f64 } else { -1.5 },
        })
        .collect()
}

/// Numbers of the drawn tokens of some rollouts, of all logits as a whole.
pub(crate) fn numbers(
    lm: &dyn CausalLm,
    theta: &Tensor<1>,
    rollouts: &[Rollout],
    sampling: &Sampling,
) -> Numbers {
    let drawn = Drawn::new(rollouts, sampling);
    let params = Params::new(lm.layout(), theta);
    let all = 0..drawn.places.len();
    let pi = drawn.distribution(all.clone(), logits_at(lm, &params, &drawn.rows, &drawn.places).primal);
    drawn.numbers(all, pi, None)
}

/// A direction in which to move the weights.
fn direction(n: usize, key: u64) -> Tensor<1> {
    let mut rng = keyed_rng([key, 1, 0, 0]);
    let values: Vec<f64> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(values.as_slice(), (&Device::flex(), DType::F64))
}

/// The gradient against central differences along random directions, in f64, at weights that are
/// neither the sampling nor the initial ones, so that ratio, clip, KL and entropy all matter.
#[test]
fn gradient_equals_finite_differences() {
    const H: f64 = 1e-5;
    let (lm, initial) = model(DType::F64);
    let n = lm.layout().len();
    let theta = initial.clone() + direction(n, 1) * 0.02;
    let mut rollouts = rollouts(lm.as_ref(), &theta, 6);
    for (i, rollout) in rollouts.iter_mut().enumerate() {
        // ratios of about 0.7 to 1.3, on both sides of the clip bounds and on neither
        for log_prob in &mut rollout.completion.log_probs {
            *log_prob += [0.35, -0.35, 0.1, -0.1][i % 4];
        }
    }
    let sampling = sampling();
    let drawn = Drawn::new(&rollouts, &sampling);
    let initial = numbers(lm.as_ref(), &initial, &rollouts, &sampling).logits;
    let of_initial = |part: Range<usize>| initial.clone().narrow(0, part.start, part.len());
    for (kl, entropy) in [(0.0, 0.0), (0.7, 0.0), (0.0, 0.4), (0.3, 0.2)] {
        let coefficients = Coefficients { clip: 0.2, kl, entropy };
        let params = Params::tracked(lm.layout(), &theta);
        let logits = Logits::at(lm.as_ref(), &params, &drawn.rows, &drawn.places);
        let objective = logits.sum(|part, pi| {
            let pi = drawn.distribution(part.clone(), pi);
            loss(&drawn.numbers(part.clone(), pi, Some(&of_initial(part).autodiff())), coefficients, 10.0)
        });
        let gradient = params.gradient(objective.backward());
        let at = |theta: Tensor<1>| {
            let pi = numbers(lm.as_ref(), &theta, &rollouts, &sampling).logits;
            loss(&drawn.numbers(0..pi.dims()[0], pi, Some(&initial)), coefficients, 10.0).into_scalar::<f64>()
        };
        for key in 2..6 {
            let direction = direction(n, key);
            let exact = (gradient.clone() * direction.clone()).sum().into_scalar::<f64>();
            let moved = |h: f64| at(theta.clone() + direction.clone() * h);
            let difference = (moved(H) - moved(-H)) / (2.0 * H);
            assert!(
                (exact - difference).abs() < 1e-6 * exact.abs().max(0.1),
                "kl {kl}, entropy {entropy}: {exact} and {difference}"
            );
        }
    }
}

/// A stop token cannot be drawn before `min_new_tokens`.
#[test]
fn early_stop_tokens_are_forbidden() {
    let (lm, theta) = model(DType::F64);
    let rollouts = rollouts(lm.as_ref(), &theta, 2);
    let numbers = numbers(lm.as_ref(), &theta, &rollouts, &sampling());
    let logits: Vec<f64> = numbers.logits.to_data().iter().collect();
    let stop = |place: usize| &logits[place * lm.vocab_size()..][..12];
    assert!(stop(0).iter().chain(stop(1)).all(|logit| *logit < -1e6));
    assert!(stop(2).iter().all(|logit| *logit > -1e6));
}

/// What the sampler says of its tokens is what the objective says of them.
#[test]
fn tokens_that_are_never_drawn_have_no_mass() {
    let (lm, theta) = model(DType::F64);
    let vocab = lm.vocab_size() as u32;
    for min_new_tokens in [0, 2] {
        let never = (30..vocab).collect();
        let sampling = Sampling { never, min_new_tokens, stop: vec![3, 40, vocab + 5], ..sampling() };
        let prompts = vec![vec![1, 2], vec![5]];
        let completions = sample(lm.as_ref(), &theta, &prompts, &sampling).unwrap();
        let rollouts: Vec<Rollout> = prompts
            .into_iter()
            .zip(completions)
            .map(|(prompt, completion)| Rollout { prompt, completion, advantage: 1.0 })
            .collect();
        let numbers = numbers(lm.as_ref(), &theta, &rollouts, &sampling);
        let difference = (numbers.log_probs - numbers.old).abs().max().into_scalar::<f64>();
        assert!(difference < 1e-5, "{difference:e}");
    }
}
