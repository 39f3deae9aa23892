//! `preset = "trl"` against TRL's own SFTTrainer: the fine-tuned weights, on a GPT-2 and a Llama.
//!
//! It needs a Python with trl, transformers and datasets (6 GB), so it is run by name:
//! `DPG_TEST_PYTHON_TRL=/path/to/python cargo test -p dpg-metagrad --test trl -- --ignored --nocapture`.

use std::path::Path;
use std::process::Command;

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad::Sft;
use dpg_models::{Example, architecture, keyed_rng, weights};
use dpg_spec::{AdamW, Optimizer, Preset};
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

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// Distance of our theta_T from TRL's, over the norm of theirs and over how far theirs moved.
fn compare(python: &str, model: &str) -> [f64; 2] {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.join("../models/tests/golden").join(model);
    let lm = architecture(&folder).unwrap();
    let rows = rows(lm.vocab_size() as u32);

    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("rows.json");
    std::fs::write(&file, serde_json::to_string(&rows).unwrap()).unwrap();
    let output = Command::new(python)
        .arg(here.join("../../tests/reference/sft_trainer.py"))
        .args([&folder, &file, out.path()])
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = weights::load::<f64>(out.path(), lm.layout()).unwrap();

    let mut recipe = Preset::Trl.sft(false);
    let Optimizer::Adamw(adamw) = recipe.optimizer else { panic!("TRL's default is AdamW") };
    // PyTorch's has none
    recipe.optimizer = Optimizer::Adamw(AdamW { eps_root: 0.0, ..adamw });
    let start = weights::load::<f64>(&folder, lm.layout()).unwrap();
    let theta = Tensor::<1>::from_data(start.as_slice(), (&Device::flex(), DType::F64));
    let examples: Vec<Example> = rows.into_iter().map(Example::all_scored).collect();
    let order: Vec<usize> = (0..examples.len()).collect();
    let epoch: Vec<Vec<usize>> = order.chunks(recipe.batch_size).map(<[usize]>::to_vec).collect();
    let batches = vec![epoch; recipe.epochs].concat();
    let sft = Sft {
        lm: lm.as_ref(),
        theta: &theta,
        examples: &examples,
        weights: &vec![1.0; examples.len()],
        batches: &batches,
        recipe: &recipe,
        microbatch: recipe.batch_size,
        devices: &[Device::flex()],
        cancelled: &|| false,
    };
    let ours: Vec<f64> = sft.train().unwrap().to_data_as::<f64>().iter::<f64>().collect();
    let apart = distance(&ours, &theirs);
    [apart / distance(&theirs, &vec![0.0; theirs.len()]), apart / distance(&theirs, &start)]
}

#[test]
#[ignore = "needs a Python with TRL in DPG_TEST_PYTHON_TRL"]
fn theta_is_that_of_trl() {
    let python = std::env::var("DPG_TEST_PYTHON_TRL").expect("DPG_TEST_PYTHON_TRL names a Python with TRL");
    for model in ["gpt2", "llama"] {
        let [relative, of_the_way] = compare(&python, model);
        println!("{model}: {relative:.1e} of the norm of theta_T, {of_the_way:.1e} of the way to it");
        assert!(relative < 1e-4, "{model}: {relative:e}");
        // what three epochs at 2e-5 do is small beside theta itself
        assert!(of_the_way < 1e-2, "{model}: {of_the_way:e}");
    }
}
