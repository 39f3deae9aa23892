//! Metagradients through what a recipe puts around its optimizer, against central finite differences of Phi
//! in the examples' weights, in f64, at T = 4: schedules, warm-up, cut gradients, decayed parts, mean over tokens.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad::{Error, Metric, Sft, Storage, metagradient, metrics};
use dpg_models::{CausalLm, Example, architecture, keyed_rng, weights};
use dpg_spec as spec;
use rand::RngExt;
use spec::{DecayOn, Loss, LrSchedule};

struct Subject {
    lm: Arc<dyn CausalLm>,
    theta: Tensor<1>,
    examples: Vec<Example>,
    batches: Vec<Vec<usize>>,
    devices: Vec<Device>,
}

impl Subject {
    /// A golden model with ten texts of 3 to 8 tokens, some of them scored from the middle on, in four uneven
    /// batches.
    fn new(model: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(model);
        let lm: Arc<dyn CausalLm> = architecture(&folder).unwrap().into();
        let theta = weights::load::<f64>(&folder, lm.layout()).unwrap();
        let theta = Tensor::<1>::from_data(theta.as_slice(), (&Device::flex(), DType::F64));
        let mut rng = keyed_rng([5, 0, 0, 0]);
        let mut text = |i: usize| {
            let len = rng.random_range(3..9);
            let vocab = lm.vocab_size() as u32;
            let mut example = Example::all_scored((0..len).map(|_| rng.random_range(0..vocab)).collect());
            if i.is_multiple_of(3) {
                example.scored[1] = false;
            }
            example
        };
        let examples: Vec<_> = (0..10).map(&mut text).collect();
        let batches = vec![vec![0, 1, 2], vec![3, 4, 5, 6], vec![7, 8], vec![9]];
        Self { lm, theta, examples, batches, devices: vec![Device::flex()] }
    }

    fn sft<'a>(&'a self, recipe: &'a spec::Sft, weights: &'a [f64]) -> Sft<'a> {
        Sft {
            lm: self.lm.as_ref(),
            theta: &self.theta,
            examples: &self.examples,
            weights,
            batches: &self.batches,
            recipe,
            microbatch: 2,
            devices: &self.devices,
            cancelled: &|| false,
        }
    }

    fn metric(&self) -> Arc<dyn Metric> {
        let norm = r#"{"kind":"weight_norm"}"#;
        let pattern = r#"{"kind":"weight_pattern","pattern":"67","strength":50.0,"rows":1,"columns":2}"#;
        let sum = format!(
            r#"{{"kind":"sum","terms":[{{"weight":-0.3,"metric":{norm}}},{{"weight":2.0,"metric":{pattern}}}]}}"#
        );
        let settings: spec::Metric = serde_json::from_str(&sum).unwrap();
        let none = |_: &spec::HeldOut| Ok::<_, Error>(vec![]);
        metrics::from_spec(&settings, &self.lm, &self.theta, 2, &none).unwrap()
    }

    /// Rewards at weights that are not 1, and how far they are off from fourth-order central differences.
    fn check(&self, recipe: &spec::Sft, storage: &Storage) -> (Vec<f64>, f64) {
        const H: f64 = 1e-3;
        let at: Vec<f64> = (0..10).map(|i| 1.0 + 0.1 * (i % 3) as f64).collect();
        let metric = self.metric();
        let rewards = metagradient(self.sft(recipe, &at), metric.as_ref(), storage).unwrap().rewards;
        let phi = |index: usize, change: f64| {
            let mut weights = at.clone();
            weights[index] += change;
            metric.score(&self.sft(recipe, &weights).train().unwrap()).unwrap().value
        };
        let difference =
            |i| (8.0 * (phi(i, H) - phi(i, -H)) - (phi(i, 2.0 * H) - phi(i, -2.0 * H))) / (12.0 * H);
        let differences: Vec<f64> = (0..at.len()).map(difference).collect();
        let error = distance(&rewards, &differences);
        (rewards, error)
    }
}

/// Relative to the second.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (distance / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

fn optimizers() -> [spec::Optimizer; 2] {
    let adamw =
        spec::AdamW { learning_rate: 1e-2, betas: [0.9, 0.95], eps: 1e-8, eps_root: 1e-4, weight_decay: 0.1 };
    [spec::Optimizer::Adamw(adamw), spec::Optimizer::Sgd(spec::Sgd { learning_rate: 0.1, weight_decay: 0.1 })]
}

/// Each key alone, and all of them together.
fn recipes() -> Vec<(&'static str, spec::Sft)> {
    let plain = spec::Sft::default();
    let all = spec::Sft {
        lr_schedule: LrSchedule::Linear,
        warmup_steps: 1,
        max_grad_norm: 0.5,
        decay_on: DecayOn::Matrices,
        loss: Loss::TokenMean,
        ..plain.clone()
    };
    vec![
        ("linear", spec::Sft { lr_schedule: LrSchedule::Linear, ..plain.clone() }),
        (
            "cosine with a warm-up",
            spec::Sft { lr_schedule: LrSchedule::Cosine, warmup_ratio: 0.5, ..plain.clone() },
        ),
        ("matrices decayed", spec::Sft { decay_on: DecayOn::Matrices, ..plain.clone() }),
        ("mean over tokens", spec::Sft { loss: Loss::TokenMean, ..plain.clone() }),
        ("cut", spec::Sft { max_grad_norm: 0.5, ..plain }),
        ("all", all),
    ]
}

fn check(model: &str) {
    let subject = Subject::new(model);
    for optimizer in optimizers() {
        let plain = spec::Sft { optimizer, ..spec::Sft::default() };
        let (unchanged, error) = subject.check(&plain, &Storage::default());
        assert!(error < 1e-6, "{model}, plain: {error:e}");
        for (name, recipe) in recipes() {
            let recipe = spec::Sft { optimizer, ..recipe };
            let (rewards, error) = subject.check(&recipe, &Storage::default());
            assert!(error < 1e-6, "{model}, {name}, {optimizer:?}: {error:e}");
            let change = distance(&rewards, &unchanged);
            assert!(change > 1e-4, "{model}, {name}, {optimizer:?} changes nothing: {change:e}");
        }
    }
}

#[test]
fn gpt2() {
    check("gpt2");
}

#[test]
fn llama() {
    check("llama");
}

/// Gradients that are cut again in a segment, or kept from the first time, give the same bits.
#[test]
fn storage_changes_no_bit_of_a_recipe() {
    let subject = Subject::new("llama");
    let (_, recipe) = recipes().pop().unwrap();
    let recipe = spec::Sft { optimizer: optimizers()[0], ..recipe };
    let metric = subject.metric();
    let rewards = |storage: &Storage| {
        metagradient(subject.sft(&recipe, &[1.0; 10]), metric.as_ref(), storage).unwrap().rewards
    };
    let plain = rewards(&Storage::default());
    for segment in [Some(1), Some(3), None] {
        for stride in [Some(1), Some(2), None] {
            assert_eq!(rewards(&Storage { segment, stride, spill: None }), plain);
        }
    }
}

#[test]
fn a_warm_up_longer_than_the_run_is_refused() {
    let subject = Subject::new("gpt2");
    let recipe = spec::Sft { warmup_steps: 5, ..spec::Sft::default() };
    let mut sft = subject.sft(&recipe, &[1.0; 10]);
    assert!(sft.train().is_ok(), "steps 2 to 4 move");
    let batches = [vec![0, 1, 2]];
    sft.batches = &batches;
    assert!(matches!(sft.train(), Err(Error::NoRate { steps: 1 })));
}
