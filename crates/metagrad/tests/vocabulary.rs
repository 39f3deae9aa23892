//! A vocabulary so large that logits pass in chunks of a few tokens each.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use dpg_metagrad::{Sft, Storage, metagradient, metrics::WeightNorm};
use dpg_models::{Example, from_config, keyed_rng};
use dpg_spec as spec;
use rand::RngExt;
use serde_json::json;

/// Microbatches of one example cut chunks at other tokens than a whole batch does.
#[test]
fn chunks_change_nothing_but_rounding() {
    const VOCAB: u32 = 900_000;
    let config = json!({
        "model_type": "gpt2", "vocab_size": VOCAB, "n_positions": 16, "n_embd": 4, "n_layer": 1, "n_head": 1,
    });
    let lm = from_config(config, Path::new("test")).unwrap();
    let rng = &mut keyed_rng([1, 2, 3, 4]);
    let theta: Vec<f32> = (0..lm.layout().len()).map(|_| rng.random_range(-0.3..0.3)).collect();
    let theta = Tensor::<1>::from_data(theta.as_slice(), &Device::flex());
    let examples: Vec<Example> =
        (0..3).map(|_| Example::all_scored((0..15).map(|_| rng.random_range(0..VOCAB)).collect())).collect();
    // both batches lie on the way back, one of them with its curvature
    let batches = vec![vec![0, 1, 2], vec![2, 1, 0]];
    let head = spec::WeightNorm { parameter: spec::Parameters::One(spec::NamedParameter::lm_head()) };
    let metric = WeightNorm::new(&head, lm.as_ref(), &theta).unwrap();
    let optimizer = spec::Optimizer::Sgd(spec::Sgd { learning_rate: 0.1, weight_decay: 0.0 });
    let recipe = spec::Sft { optimizer, ..spec::Sft::default() };
    let run = |microbatch| {
        let sft = Sft {
            lm: lm.as_ref(),
            theta: &theta,
            examples: &examples,
            weights: &[1.0; 3],
            batches: &batches,
            recipe: &recipe,
            microbatch,
            devices: &[Device::flex()],
            cancelled: &|| false,
        };
        metagradient(sft, &metric, &Storage::default()).unwrap().rewards
    };
    let (whole, alone) = (run(3), run(1));
    assert!(alone.iter().all(|reward| *reward != 0.0));
    for (ours, expected) in whole.iter().zip(&alone) {
        assert!((ours / expected - 1.0).abs() < 1e-4, "{ours:e} and {expected:e}");
    }
}
