//! `preset = "trl"` against TRL's own SFTTrainer: the fine-tuned weights, on a GPT-2 and a Llama, and LoRA adapters
//! against peft's.
//!
//! It needs a Python with trl, transformers, peft and datasets (6 GB), so it is run by name:
//! `DPG_TEST_PYTHON_TRL=/path/to/python cargo test -p dpg-metagrad --test trl -- --ignored --nocapture`.

use std::path::Path;
use std::process::Command;

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad::{Sft, pack};
use dpg_models::{Example, Model, Param, keyed_rng, load_adapter, weights};
use dpg_spec::{AdamW, AllLinear, Lora, LoraTargets, Optimizer, Preset};
use rand::RngExt;

/// Texts of 4 to 30 tokens: three epochs of three batches, the last one of four texts.
fn rows(vocab: u32) -> Vec<Vec<u32>> {
    let mut rng = keyed_rng([6, 0, 0, 0]);
    let mut row = |_| {
        let len = rng.random_range(4..31);
        (0..len).map(|_| rng.random_range(3..vocab)).collect()
    };
    (0..20).map(&mut row).collect()
}

/// Tokens of a packed row.
const ROW: usize = 64;

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// Distance of our theta_T from TRL's, over the norm of theirs and over how far theirs moved; of all weights, or of LoRA
/// adapters; of rows that are packed, or not.
fn compare(python: &str, model: &str, lora: Option<&Lora>, packing: bool) -> [f64; 2] {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.join("../models/tests/golden").join(model);
    let cpu = Device::flex();
    let Model { lm, theta, .. } = &match lora {
        None => Model::load(&folder, DType::F64, &cpu).unwrap(),
        Some(lora) => {
            Model::load_adapted(&folder, lora, 0, DType::F64, std::slice::from_ref(&cpu), None).unwrap()
        }
    };
    let rows = rows(lm.vocab_size() as u32);

    let out = tempfile::tempdir().unwrap();
    let (file, adapters) = (out.path().join("rows.json"), out.path().join("start"));
    std::fs::write(&file, serde_json::to_string(&rows).unwrap()).unwrap();
    let mut command = Command::new(python);
    command.arg(here.join("../../tests/reference/sft_trainer.py")).args([&folder, &file, out.path()]);
    if let Some(lora) = lora {
        let start =
            Model::load_adapted(&folder, lora, 0, DType::F64, std::slice::from_ref(&cpu), None).unwrap();
        start.export(&adapters, theta).unwrap();
        command.arg(&adapters);
    }
    if packing {
        command.args(["--packing", &ROW.to_string()]);
    }
    let output = command.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Vec<f64> = match lora {
        None => weights::load(out.path(), lm.layout()).unwrap(),
        Some(_) => host(&load_adapter(out.path(), lm.layout(), theta).unwrap().unwrap()),
    };

    let mut recipe = dpg_spec::Sft { packing, ..Preset::Trl.sft(false) };
    let Optimizer::Adamw(adamw) = recipe.optimizer else { panic!("TRL's default is AdamW") };
    // PyTorch's has none
    recipe.optimizer = Optimizer::Adamw(AdamW { eps_root: 0.0, ..adamw });
    let examples: Vec<Example> = rows.into_iter().map(Example::all_scored).collect();
    let mut packs: Vec<Vec<usize>> = (0..examples.len()).map(|example| vec![example]).collect();
    if packing {
        let lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
        packs = pack(&lengths, ROW);
        assert!(packs.len() < lengths.len() / 2);
    }
    let epoch: Vec<Vec<usize>> = packs.chunks(recipe.batch_size).map(<[Vec<usize>]>::concat).collect();
    let batches = vec![epoch; recipe.epochs].concat();
    let sft = Sft {
        lm: lm.as_ref(),
        theta,
        examples: &examples,
        weights: &vec![1.0; examples.len()],
        batches: &batches,
        recipe: &recipe,
        microbatch: recipe.batch_size,
        devices: &[cpu],
        cancelled: &|| false,
    };
    let ours = host(&sft.train().unwrap());
    let (start, zero) = (host(theta), vec![0.0; theirs.len()]);
    // Softmax does not see the bias of keys: its gradient is 0, and in TRL's single precision noise, of which Adam makes
    // steps as large as any. In double precision TRL does not move it either.
    let still: Vec<usize> = lm.layout().params().iter().flat_map(key_bias).collect();
    let moved = |vector: &[f64]| {
        let mut vector = vector.to_vec();
        for &place in &still {
            vector[place] = 0.0;
        }
        vector
    };
    let [ours, theirs, start] = [&ours, &theirs, &start].map(|vector| moved(vector));
    let apart = distance(&ours, &theirs);
    [apart / distance(&theirs, &zero), apart / distance(&theirs, &start)]
}

/// The places of the bias of keys, which GPT-2 has between those of queries and values.
fn key_bias(param: &Param) -> std::ops::Range<usize> {
    if !param.name.ends_with("c_attn.bias") {
        return 0..0;
    }
    let third = param.len() / 3;
    param.offset + third..param.offset + 2 * third
}

fn host(vector: &Tensor<1>) -> Vec<f64> {
    vector.to_data_as::<f64>().iter().collect()
}

#[test]
#[ignore = "needs a Python with TRL in DPG_TEST_PYTHON_TRL"]
fn theta_is_that_of_trl() {
    let python = std::env::var("DPG_TEST_PYTHON_TRL").expect("DPG_TEST_PYTHON_TRL names a Python with TRL");
    let default = Lora::default();
    let all = Lora { rank: 4, alpha: 16.0, targets: Some(LoraTargets::All(AllLinear::AllLinear)) };
    for model in ["gpt2", "llama"] {
        for (lora, packing) in [(None, false), (None, true), (Some(&default), false), (Some(&all), false)] {
            let [relative, of_the_way] = compare(&python, model, lora, packing);
            let case = format!("{model}, {lora:?}, packing {packing}");
            println!("{case}: {relative:.1e} of the norm of theta_T, {of_the_way:.1e} of the way to it");
            assert!(relative < 1e-4, "{case}: {relative:e}");
            // what three epochs at 2e-5 do is small beside theta itself
            assert!(of_the_way < 1e-3, "{case}: {of_the_way:e}");
        }
    }
}
