//! Whole models without fused forms, as devices other than the CPU compute them, against the same
//! models with them.

use std::cell::Cell;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use rand::RngExt;
use serde_json::{Value, json};

use crate::{
    CausalLm, Example, MatmulPrecision, Params, Predictions, Sampling, from_config, keyed_rng, kl_divergence,
    places, sample,
};

thread_local! {
    static COMPOSED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is to compute as other devices do.
pub(super) fn composed() -> bool {
    COMPOSED.get()
}

/// Does some work as other devices do, on a thread of its own: work on the CPU else goes to one of those that kernels run on.
pub(crate) fn as_elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread starts");
    alone.install(|| {
        COMPOSED.set(true);
        work()
    })
}

fn models(vocab: usize) -> [Box<dyn CausalLm>; 2] {
    let gpt2 = json!({
        "model_type": "gpt2", "vocab_size": vocab, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2,
    });
    // grouped heads, their norms, and an untied head
    let qwen3 = json!({
        "model_type": "qwen3", "vocab_size": vocab, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "max_position_embeddings": 16, "rms_norm_eps": 1e-6,
    });
    [gpt2, qwen3].map(|config: Value| from_config(config, Path::new("test")).unwrap())
}

fn vector(lm: &dyn CausalLm, key: u64, dtype: DType) -> Tensor<1> {
    let mut rng = keyed_rng([key, 0, 0, 0]);
    let values: Vec<f64> = (0..lm.layout().len()).map(|_| rng.random_range(-0.5..0.5)).collect();
    Tensor::<1>::from_data(values.as_slice(), (&Device::flex(), DType::F64)).cast(dtype)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.to_data_as::<f64>().iter().collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// Log-probabilities, their tangents, and the gradients of both.
fn passes(lm: &dyn CausalLm, dtype: DType) -> [Vec<f64>; 4] {
    let (theta, direction) = (vector(lm, 1, dtype), vector(lm, 2, dtype));
    let rows = [vec![3, 1, 4, 1, 5, 9], vec![2, 7, 18]].map(Example::all_scored);
    let pass = |params: &Params| Predictions::at(lm, params, &rows, &places(&rows));
    let twice = |numbers: &[f64]| numbers.iter().map(|number| 2.0 * number).collect::<Vec<_>>();
    // of sums of squares
    let layout = lm.layout();
    let params = Params::tracked(layout, &theta);
    let predictions = pass(&params);
    let value = host(predictions.log_probs().primal);
    let gradient = params.gradient(predictions.weighed(&twice(&value)).1.backward());
    let params = Params::tracked(layout, &theta).with_tangent(layout, &direction);
    let predictions = pass(&params);
    let tangent = host(predictions.log_probs().tangent.unwrap());
    let curvature = params.gradient(predictions.weighed(&twice(&tangent)).1.backward());
    [value, tangent, host(gradient), host(curvature)]
}

#[test]
fn fused_and_composed_passes_are_the_same() {
    for lm in models(19) {
        let fused = passes(lm.as_ref(), DType::F64);
        let composed = as_elsewhere(|| passes(lm.as_ref(), DType::F64));
        for (fused, composed) in fused.iter().zip(&composed) {
            let error = distance(fused, composed);
            assert!(error < 1e-12, "{error:e}");
        }
    }
}

#[test]
fn fused_and_composed_divergences_are_the_same() {
    let logits = |key| {
        let mut rng = keyed_rng([key, 0, 0, 0]);
        let values: Vec<f64> = (0..30).map(|_| rng.random_range(-3.0..3.0)).collect();
        Tensor::<1>::from_data(values.as_slice(), (&Device::flex(), DType::F64)).reshape([6, 5])
    };
    let divergence = || host(kl_divergence(&logits(1), &logits(2)));
    let error = distance(&divergence(), &as_elsewhere(divergence));
    assert!(error < 1e-13, "{error:e}");
}

/// Prompts of several lengths, rows that leave the batch, and tokens that are not drawn.
#[test]
fn fused_and_composed_decoding_draw_the_same() {
    let sampling = |temperature| Sampling {
        temperature,
        min_new_tokens: 2,
        max_new_tokens: 8,
        stop: (0..50).step_by(7).collect(),
        never: vec![1, 69, 70],
        seed: 1,
        step: 0,
        batch: 4,
        devices: vec![Device::flex()],
    };
    let prompts = [vec![1], vec![2, 3, 5], vec![7, 0], vec![8, 8, 8, 8], vec![6]];
    for lm in models(70) {
        let theta = vector(lm.as_ref(), 1, DType::F32);
        for temperature in [0.8, 3.0, 0.0] {
            let draw = || sample(lm.as_ref(), &theta, &prompts, &sampling(temperature)).unwrap();
            for (fused, composed) in draw().iter().zip(as_elsewhere(draw)) {
                assert_eq!(fused.tokens, composed.tokens);
                assert!(distance(&fused.log_probs, &composed.log_probs) < 1e-5 || temperature == 0.0);
                assert!(composed.tokens.iter().all(|token| ![1, 69].contains(token)));
            }
        }
    }
}

/// Operands keep 11 and 8 bits of mantissa, forwards and on the way back.
#[test]
fn precisions_round_the_operands_of_products() {
    for mut lm in models(19) {
        let exact = passes(lm.as_ref(), DType::F64);
        let mut last = 0.0;
        for (precision, least, most) in [
            (MatmulPrecision::F32, 0.0, 1e-5),
            (MatmulPrecision::Tf32, 1e-5, 1e-2),
            (MatmulPrecision::Bf16, 2e-4, 1e-1),
        ] {
            lm.set_precision(precision);
            for (rounded, exact) in passes(lm.as_ref(), DType::F32).iter().zip(&exact) {
                let error = distance(rounded, exact);
                assert!(least < error && error < most, "{precision:?}: {error:e}");
            }
            let error = distance(&passes(lm.as_ref(), DType::F32)[0], &exact[0]);
            assert!(error > 2.0 * last, "{precision:?}: {error:e} after {last:e}");
            last = error;
        }
    }
}

#[test]
fn the_cpu_refuses_what_it_gains_nothing_from() {
    assert!(MatmulPrecision::F32.check(&Device::flex()).is_ok());
    for precision in [MatmulPrecision::Tf32, MatmulPrecision::Bf16] {
        let message = precision.check(&Device::flex()).unwrap_err().to_string();
        assert!(message.contains(precision.name()) && message.contains("--device cuda:0"), "{message}");
    }
}
