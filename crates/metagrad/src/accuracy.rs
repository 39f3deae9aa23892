//! Where single precision is lost in the rewards of a real model: parts of a walk of one step are taken in f64 and in
//! f32 in turn. It prints a table, by `eps_root`:
//!
//! ```sh
//! DPG_TEST_MODEL=FOLDER DPG_TEST_TEXTS=TEXTS.jsonl cargo test -p dpg-metagrad --lib accuracy -- --ignored --nocapture
//! ```

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{Example, Model, Tokenizer};
use dpg_optim::{Replay, State};
use dpg_spec::{AdamW, Optimizer};

use crate::{Context, Metric, Sft, loss::of_examples, metrics::HeldOutLoss};

/// One type of numbers: the model, and the metric.
struct Side {
    model: Model,
    metric: HeldOutLoss,
    dtype: DType,
}

impl Side {
    fn load(folder: &Path, held_out: &[Example], dtype: DType) -> Self {
        let model = Model::load(folder, dtype, &Device::flex()).unwrap();
        let metric = HeldOutLoss::new(&model.lm, held_out.to_vec(), 4).unwrap();
        Self { model, metric, dtype }
    }

    /// The metric's gradient where a step has led.
    fn slope(&self, theta: &Tensor<1>) -> Tensor<1> {
        let context = Context { scratch: &std::env::temp_dir(), stop: &|| false };
        self.metric.score_and_gradient(&theta.clone().cast(self.dtype), context).unwrap().1.cast(DType::F64)
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let size: f64 = b.iter().map(|b| b * b).sum();
    (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / size).sqrt()
}

#[test]
#[ignore = "needs a model in DPG_TEST_MODEL and texts in DPG_TEST_TEXTS"]
fn where_single_precision_is_lost() {
    let [folder, texts] = ["DPG_TEST_MODEL", "DPG_TEST_TEXTS"].map(|name| std::env::var(name).unwrap());
    let folder = Path::new(&folder);
    let tokenizer = Tokenizer::load(folder).unwrap();
    let mut examples: Vec<Example> = std::fs::read_to_string(texts)
        .unwrap()
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let mut tokens = tokenizer.encode_text(row["text"].as_str().unwrap(), true).unwrap();
            tokens.truncate(64);
            Example::all_scored(tokens)
        })
        .take(24)
        .collect();
    let held_out = examples.split_off(16);
    let [single, double] = [DType::F32, DType::F64].map(|dtype| Side::load(folder, &held_out, dtype));
    let (weights, batches) = (vec![1.0; examples.len()], vec![(0..examples.len()).collect()]);
    let devices = [Device::flex()];

    let plain = dpg_spec::Sft::default();
    let sft = Sft {
        lm: double.model.lm.as_ref(),
        theta: &double.model.theta,
        examples: &examples,
        weights: &weights,
        batches: &batches,
        recipe: &plain,
        microbatch: 8,
        devices: &devices,
        cancelled: &|| false,
    };
    // the same for every optimizer
    let gradient = |side: &Side| sft.gradient(0, &side.model.theta).unwrap().flat.cast(DType::F64);
    let [g_single, g_double] = [&single, &double].map(gradient);

    println!("| eps_root | f32 | gradient g | metric's gradient | pass along u |\n|---|--:|--:|--:|--:|");
    for eps_root in [1e-9, 1e-8, 1e-7, 1e-6, 1e-5] {
        let recipe = dpg_spec::Sft {
            optimizer: Optimizer::Adamw(AdamW { eps_root, learning_rate: 1e-5, ..AdamW::default() }),
            ..plain.clone()
        };
        let run = Sft { recipe: &recipe, ..sft };
        let rewards = |g: &Tensor<1>, slope: &Side, pass: &Side| {
            let start = State::new(run.theta.clone());
            let end = run.optimizer().step(&run.run(), 0, start.clone(), g).theta;
            let adjoint = State::new(slope.slope(&end));
            let replay = Replay { run: &run.run(), first: 0, start: &start, gradients: &[] };
            let u = run.optimizer().direction(replay, g, &adjoint).1;
            of_examples(&run.tangents(0, &pass.model.theta, &u.cast(pass.dtype), false).unwrap().0)
        };
        let exact = rewards(&g_double, &double, &double);
        let [all, g, slope, pass] = [
            (&g_single, &single, &single),
            (&g_single, &double, &double),
            (&g_double, &single, &double),
            (&g_double, &double, &single),
        ]
        .map(|(g, slope, pass)| distance(&rewards(g, slope, pass), &exact));
        println!("| {eps_root:.0e} | {all:.1e} | {g:.1e} | {slope:.1e} | {pass:.1e} |");
        assert!(all.is_finite());
    }
}
