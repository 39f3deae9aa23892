use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_models::{architecture, keyed_rng, sample, weights};
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
        seed: 3,
        step: 0,
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
    let initial_distribution = {
        let params = Params::new(lm.layout(), &initial);
        forward(lm.as_ref(), &params, &rollouts, &sampling(), true).distribution.unwrap()
    };
    for (kl, entropy) in [(0.0, 0.0), (0.7, 0.0), (0.0, 0.4), (0.3, 0.2)] {
        let coefficients = Coefficients { clip: 0.2, kl, entropy };
        let params = Params::tracked(lm.layout(), &theta);
        let tokens = forward(lm.as_ref(), &params, &rollouts, &sampling(), true);
        let tracked = initial_distribution.clone().autodiff();
        let gradient = params.gradient(&loss(&tokens, Some(&tracked), coefficients, 10.0).backward());
        let at = |theta: Tensor<1>| {
            let params = Params::new(lm.layout(), &theta);
            let tokens = forward(lm.as_ref(), &params, &rollouts, &sampling(), true);
            loss(&tokens, Some(&initial_distribution), coefficients, 10.0).into_scalar::<f64>()
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

/// KL and entropy are sums over what could be drawn, by hand from the logits.
#[test]
fn divergence_is_the_sum_over_the_vocabulary() {
    let (lm, theta) = model(DType::F64);
    let other = theta.clone() + direction(lm.layout().len(), 1) * 0.05;
    let rollouts = rollouts(lm.as_ref(), &theta, 2);
    let distribution = |theta: &Tensor<1>| {
        let params = Params::new(lm.layout(), theta);
        forward(lm.as_ref(), &params, &rollouts, &sampling(), true).distribution.unwrap()
    };
    let (p, q) = (distribution(&theta), distribution(&other));
    let vocab = lm.vocab_size();
    let host = |tensor: Tensor<3>| tensor.to_data().iter::<f64>().collect::<Vec<_>>();
    let ours: Vec<f64> = divergence(&p, &q).to_data().iter().collect();
    let (p, q) = (host(p), host(q));
    for (place, ours) in ours.into_iter().enumerate() {
        let range = place * vocab..(place + 1) * vocab;
        let by_hand: f64 = p[range.clone()].iter().zip(&q[range]).map(|(p, q)| p.exp() * (p - q)).sum();
        assert!((ours - by_hand).abs() < 1e-12 && ours >= -1e-12, "{ours} and {by_hand}");
    }
    // the first completion token of a row cannot be a stop token
    let first = rollouts[0].columns().start * vocab;
    assert!(p[first..first + 12].iter().all(|log_prob| *log_prob < -1e6));
}
