//! Metagradients through what a recipe puts around its optimizer, against central finite differences of Phi
//! in the examples' weights, in f64, at T = 4: schedules, warm-up, cut gradients, decayed parts, mean over tokens.

mod subject;

use std::sync::Arc;

use burn::tensor::Device;
use dpg_metagrad::{Error, Metric, Sft, Storage, metagradient, metrics};
use dpg_models::Example;
use dpg_spec as spec;
use spec::{DecayOn, Loss, LrSchedule};
use subject::{Subject, context, relative_error, slopes};

struct Setup {
    subject: Subject,
    examples: Vec<Example>,
    batches: Vec<Vec<usize>>,
    devices: Vec<Device>,
}

impl Setup {
    /// A golden model with ten texts of 3 to 8 tokens, some of them scored from the middle on, in four uneven
    /// batches.
    fn new(model: &str) -> Self {
        let subject = Subject::new(model);
        let mut examples = subject.texts(10, 5);
        examples.iter_mut().step_by(3).for_each(|example| example.scored[1] = false);
        let batches = vec![vec![0, 1, 2], vec![3, 4, 5, 6], vec![7, 8], vec![9]];
        Self { subject, examples, batches, devices: vec![Device::flex()] }
    }

    fn sft<'a>(&'a self, recipe: &'a spec::Sft, weights: &'a [f64]) -> Sft<'a> {
        Sft {
            lm: self.subject.lm.as_ref(),
            theta: &self.subject.theta,
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
        metrics::from_spec(&settings, &self.subject.lm, &self.subject.theta, 2, &self.subject).unwrap()
    }

    /// Rewards at weights that are not 1, and how far they are off from fourth-order central differences.
    fn check(&self, recipe: &spec::Sft, storage: &Storage) -> (Vec<f64>, f64) {
        let at: Vec<f64> = (0..10).map(|i| 1.0 + 0.1 * (i % 3) as f64).collect();
        let metric = self.metric();
        let rewards = metagradient(self.sft(recipe, &at), metric.as_ref(), storage).unwrap().rewards;
        let phi = |index: usize, change: f64| {
            let mut weights = at.clone();
            weights[index] += change;
            metric.score(&self.sft(recipe, &weights).train().unwrap(), context()).unwrap().value
        };
        let differences: Vec<f64> =
            (0..at.len()).map(|index| slopes(|change| vec![phi(index, change)])[0]).collect();
        let error = relative_error(&rewards, &differences);
        (rewards, error)
    }
}

fn optimizers() -> [spec::Optimizer; 3] {
    let adamw =
        spec::AdamW { learning_rate: 1e-2, betas: [0.9, 0.95], eps: 1e-8, eps_root: 1e-4, weight_decay: 0.1 };
    let muon = spec::Muon { learning_rate: 1e-2, eps_root: 1e-4, ..spec::Muon::default() };
    let sgd = spec::Sgd { learning_rate: 0.1, weight_decay: 0.1 };
    [spec::Optimizer::Adamw(adamw), spec::Optimizer::Muon(muon), spec::Optimizer::Sgd(sgd)]
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
        ("mean over tokens of rows", spec::Sft { loss: Loss::TokenMean, packing: true, ..plain.clone() }),
        ("cut", spec::Sft { max_grad_norm: 0.5, ..plain }),
        ("all", all),
    ]
}

fn check(model: &str) {
    let setup = Setup::new(model);
    for optimizer in optimizers() {
        let plain = spec::Sft { optimizer, ..spec::Sft::default() };
        let (unchanged, error) = setup.check(&plain, &Storage::default());
        assert!(error < 1e-6, "{model}, plain: {error:e}");
        for (name, recipe) in recipes() {
            let recipe = spec::Sft { optimizer, ..recipe };
            let (rewards, error) = setup.check(&recipe, &Storage::default());
            assert!(error < 1e-6, "{model}, {name}, {optimizer:?}: {error:e}");
            let change = relative_error(&rewards, &unchanged);
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
    let setup = Setup::new("llama");
    let (_, recipe) = recipes().pop().unwrap();
    let recipe = spec::Sft { optimizer: optimizers()[0], ..recipe };
    let metric = setup.metric();
    let rewards = |storage: &Storage| {
        metagradient(setup.sft(&recipe, &[1.0; 10]), metric.as_ref(), storage).unwrap().rewards
    };
    let plain = rewards(&Storage::default());
    for segment in [Some(1), Some(3), None] {
        for stride in [Some(1), Some(2), None] {
            assert_eq!(rewards(&Storage { segment, stride, ..Storage::default() }), plain);
        }
    }
}

#[test]
fn a_warm_up_longer_than_the_run_is_refused() {
    let setup = Setup::new("gpt2");
    let recipe = spec::Sft { warmup_steps: 5, ..spec::Sft::default() };
    let mut sft = setup.sft(&recipe, &[1.0; 10]);
    assert!(sft.train().is_ok(), "steps 2 to 4 move");
    let batches = [vec![0, 1, 2]];
    sft.batches = &batches;
    assert!(matches!(sft.train(), Err(Error::NoRate { steps: 1 })));
}
