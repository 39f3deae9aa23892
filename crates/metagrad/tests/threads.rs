//! Rewards are the same to the last bit on any number of threads, and from run to run.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use dpg_metagrad::{Sft, Storage, metagradient_showing, metrics::WeightNorm};
use dpg_models::{Example, from_config, keyed_rng};
use dpg_spec as spec;
use rand::RngExt;
use serde_json::json;

/// Large enough that every product and kernel is shared among threads.
#[test]
fn rewards_do_not_depend_on_the_number_of_threads() {
    let configs = [
        json!({"model_type": "gpt2", "vocab_size": 512, "n_positions": 64, "n_embd": 96, "n_layer": 2, "n_head": 4}),
        json!({"model_type": "llama", "vocab_size": 512, "max_position_embeddings": 64, "hidden_size": 96,
            "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "hidden_act": "silu"}),
    ];
    for config in configs {
        let name = config["model_type"].to_string();
        let lm = from_config(config, Path::new("test")).unwrap();
        let rng = &mut keyed_rng([1, 2, 3, 4]);
        let theta: Vec<f32> = (0..lm.layout().len()).map(|_| rng.random_range(-0.1..0.1)).collect();
        let theta = Tensor::<1>::from_data(theta.as_slice(), &Device::flex());
        let examples: Vec<Example> = (0..24)
            .map(|_| Example::all_scored((0..48).map(|_| rng.random_range(0..512)).collect()))
            .collect();
        let batches: Vec<Vec<usize>> = vec![(0..12).collect(), (12..24).collect()];
        let head = spec::WeightNorm { parameter: spec::Parameters::One(spec::NamedParameter::lm_head()) };
        let metric = WeightNorm::new(&head, lm.as_ref(), &theta).unwrap();
        let recipe = spec::Sft::default();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let weights = vec![1.0; examples.len()];
            let sft = Sft {
                lm: lm.as_ref(),
                theta: &theta,
                examples: &examples,
                weights: &weights,
                batches: &batches,
                recipe: &recipe,
                microbatch: 12,
                devices: &[Device::flex()],
                cancelled: &|| false,
            };
            let mut theta: Vec<f32> = vec![];
            let show = |end: &Tensor<1>| theta = end.to_data().iter::<f32>().collect();
            let run = || metagradient_showing(sft, &metric, &Storage::default(), show).unwrap();
            let rewards = pool.install(run).rewards;
            (rewards, theta)
        };
        let one = run(1);
        assert!(one.0.iter().any(|reward| *reward != 0.0), "{name}");
        for threads in [1, 2, 3, 4, 7] {
            assert_eq!(run(threads), one, "{name}, {threads} threads");
        }
    }
}
