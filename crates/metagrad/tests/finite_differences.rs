//! Metagradients against central finite differences of Phi in the examples' weights, in f64: every
//! model, optimizer and metric, T = 1 and 4, an uneven last batch, tied and untied heads.

mod subject;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad::{
    Error, Metric, Sft, Storage, metagradient, metagradient_showing, metagradients, metrics,
    metrics::HeldOutLoss,
};
use dpg_models::{Example, from_config};
use dpg_spec as spec;
use subject::{Subject, context, relative_error, slopes};

const MODELS: [&str; 7] =
    ["gpt2", "gpt2-untied", "llama", "llama-tied", "llama-linear-rope", "qwen2", "qwen3"];

fn subject(model: &str, dtype: DType) -> Subject {
    let subject = Subject::new(model);
    Subject { theta: subject.theta.clone().cast(dtype), ..subject }
}

/// A model with `pad_token_id`.
fn padded(model: &str, pad: i64) -> Subject {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(model).join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["pad_token_id"] = pad.into();
    Subject { lm: from_config(config, &path).unwrap().into(), ..Subject::new(model) }
}

fn optimizer_settings() -> [spec::Optimizer; 2] {
    [
        spec::Optimizer::Adamw(spec::AdamW {
            learning_rate: 1e-2,
            betas: [0.9, 0.95],
            eps: 1e-8,
            eps_root: 1e-4,
            weight_decay: 1e-2,
        }),
        spec::Optimizer::Sgd(spec::Sgd { learning_rate: 0.1, weight_decay: 1e-2 }),
    ]
}

fn metric_settings() -> [(&'static str, spec::Metric); 4] {
    let parse = |text: &str| -> spec::Metric { serde_json::from_str(text).unwrap() };
    let pattern = r#"{"kind":"weight_pattern","pattern":"67","strength":50.0,"rows":1,"columns":2}"#;
    let norm = r#"{"kind":"weight_norm"}"#;
    let held_out = r#"{"kind":"held_out_loss","data":{"path":"-","column":"text"}}"#;
    let sum = format!(
        r#"{{"kind":"sum","terms":[{{"weight":2.0,"metric":{pattern}}},{{"weight":-0.1,"metric":{norm}}},{{"weight":1.0,"metric":{held_out}}}]}}"#
    );
    [("pattern", parse(pattern)), ("norm", parse(norm)), ("held out", parse(held_out)), ("sum", parse(&sum))]
}

fn metric(subject: &Subject, settings: &spec::Metric) -> Arc<dyn Metric> {
    metrics::from_spec(settings, &subject.lm, &subject.theta, 2, subject).unwrap()
}

/// Batches of 3 in file order, the last one of what is left.
fn batches(count: usize) -> Vec<Vec<usize>> {
    (0..count).collect::<Vec<_>>().chunks(3).map(<[usize]>::to_vec).collect()
}

struct Setup<'a> {
    subject: &'a Subject,
    examples: Vec<Example>,
    batches: Vec<Vec<usize>>,
    recipe: spec::Sft,
    devices: Vec<Device>,
}

impl Setup<'_> {
    fn sft<'a>(&'a self, weights: &'a [f64], microbatch: usize) -> Sft<'a> {
        Sft {
            lm: self.subject.lm.as_ref(),
            theta: &self.subject.theta,
            examples: &self.examples,
            weights,
            batches: &self.batches,
            recipe: &self.recipe,
            microbatch,
            devices: &self.devices,
            cancelled: &|| false,
        }
    }
}

fn setup(subject: &Subject, optimizer: spec::Optimizer, count: usize) -> Setup<'_> {
    Setup {
        subject,
        examples: subject.texts(count, 5),
        batches: batches(count),
        recipe: spec::Sft { optimizer, ..spec::Sft::default() },
        devices: vec![Device::flex()],
    }
}

/// Fourth-order central differences of each metric in each weight.
fn differences(setup: &Setup, metrics: &[&dyn Metric], at: &[f64]) -> Vec<Vec<f64>> {
    let slopes = (0..at.len()).map(|index| {
        let phi = |change: f64| {
            let mut weights = at.to_vec();
            weights[index] += change;
            let end = setup.sft(&weights, 3).train().unwrap();
            metrics.iter().map(|metric| metric.score(&end, context()).unwrap().value).collect()
        };
        slopes(phi)
    });
    let slopes: Vec<Vec<f64>> = slopes.collect();
    (0..metrics.len()).map(|metric| slopes.iter().map(|of| of[metric]).collect()).collect()
}

fn check(model: &str) {
    let subject = subject(model, DType::F64);
    let (names, metrics): (Vec<_>, Vec<_>) =
        metric_settings().iter().map(|(name, settings)| (*name, metric(&subject, settings))).unzip();
    let metrics: Vec<&dyn Metric> = metrics.iter().map(AsRef::as_ref).collect();
    for settings in optimizer_settings() {
        // T = 1 with two examples, T = 4 with an uneven last batch
        for count in [2, 10] {
            let setup = setup(&subject, settings, count);
            // not at 1: the weights are an input
            let at: Vec<f64> = (0..count).map(|i| 1.0 + 0.1 * (i % 3) as f64).collect();
            let differences = differences(&setup, &metrics, &at);
            for ((name, &metric), differences) in names.iter().zip(&metrics).zip(differences) {
                let run = metagradient(setup.sft(&at, 2), metric, &Storage::default()).unwrap();
                let error = relative_error(&run.rewards, &differences);
                assert!(error < 1e-6, "{model}, {name}, {} steps: {error:e}", setup.batches.len());
            }
        }
    }
}

#[test]
fn gpt2() {
    check(MODELS[0]);
    check(MODELS[1]);
}

#[test]
fn llama() {
    check(MODELS[2]);
    check(MODELS[3]);
    check(MODELS[4]);
}

#[test]
fn qwen() {
    check(MODELS[5]);
    check(MODELS[6]);
}

/// The step leaves out what comes back to the padding row, so rewards are not the derivative of plain training;
/// they are that of the training which is done. A tied head moves the row, and its value then counts.
#[test]
fn a_padding_row_is_kept_still_exactly() {
    // a vocabulary of 4 ids, so that the padding token is everywhere
    let few = |mut examples: Vec<Example>| {
        examples.iter_mut().flat_map(|example| &mut example.tokens).for_each(|token| *token %= 4);
        examples
    };
    for model in ["llama", "llama-tied", "qwen2", "qwen3"] {
        for optimizer in optimizer_settings() {
            let rewards = |subject: &Subject, differ: bool| {
                let mut setup = setup(subject, optimizer, 10);
                setup.examples = few(setup.examples);
                let metric = HeldOutLoss::new(&subject.lm, few(subject.texts(5, 7)), 2).unwrap();
                let ones = vec![1.0; 10];
                if differ {
                    differences(&setup, &[&metric], &ones).remove(0)
                } else {
                    metagradient(setup.sft(&ones, 2), &metric, &Storage::default()).unwrap().rewards
                }
            };
            let padded = padded(model, 2);
            let still = rewards(&padded, false);
            let error = relative_error(&still, &rewards(&padded, true));
            assert!(error < 1e-6, "{model}: {error:e}");
            let plain = rewards(&subject(model, DType::F64), false);
            assert!(relative_error(&still, &plain) > 1e-3, "{model}: the padding row makes no difference");
        }
    }
}

/// An untied row that training keeps still has the same bits after it, under SGD without weight decay.
#[test]
fn a_padding_row_has_the_same_bits_after_training() {
    let subject = padded("llama", -94);
    let sgd = spec::Optimizer::Sgd(spec::Sgd { learning_rate: 0.1, weight_decay: 0.0 });
    let mut setup = setup(&subject, sgd, 10);
    setup.examples.iter_mut().for_each(|example| example.tokens[0] = 2);
    let before = host(&subject.theta);
    let after = host(&setup.sft(&[1.0; 10], 3).train().unwrap());
    let table = subject.lm.layout().find("model.embed_tokens.weight").unwrap();
    let row = |row: usize| {
        let first = table.offset + row * table.shape[1];
        first..first + table.shape[1]
    };
    assert_eq!(before[row(2)], after[row(2)]);
    let seen = setup.examples[0].tokens[1] as usize;
    assert_ne!(before[row(seen)], after[row(seen)]);
}

/// One step whose batch passes at once has its rewards from the traces of the way there, otherwise from a dual pass.
#[test]
fn traces_give_the_rewards_of_a_dual_pass() {
    let models = MODELS.map(|model| (model, subject(model, DType::F64)));
    let padded = ["llama-tied", "qwen3"].map(|model| (model, padded(model, 2)));
    for (model, subject) in models.into_iter().chain(padded) {
        let mut setup = setup(&subject, optimizer_settings()[0], 6);
        setup.batches = vec![(0..6).collect()];
        for example in &mut setup.examples {
            example.tokens[0] = 2;
        }
        let metric = metric(&subject, &metric_settings()[3].1);
        let mut run = |weights: &[f64], microbatch: usize, devices: usize| {
            setup.devices = vec![Device::flex(); devices];
            let run = metagradient(setup.sft(weights, microbatch), metric.as_ref(), &Storage::default());
            run.unwrap().rewards
        };
        let weights = [1.0, 0.5, 2.0, -1.0, 1.0, 3.0];
        let dual = run(&weights, 4, 1);
        for (microbatch, devices) in [(6, 1), (2, 3), (5, 4)] {
            let traced = run(&weights, microbatch, devices);
            assert!(relative_error(&traced, &dual) < 1e-11, "{model}: {traced:?} for {dual:?}");
            assert!(traced != dual, "{model}: nothing was traced");
            assert_eq!(traced, run(&weights, microbatch, devices), "{model}, run again");
        }
        // what counts nothing leaves no trace of its derivative
        let weights = [1.0, 0.0, 2.0, -1.0, 1.0, 3.0];
        assert!(relative_error(&run(&weights, 6, 1), &run(&weights, 4, 1)) < 1e-12, "{model}");
    }
}

#[test]
fn microbatches_change_nothing_but_rounding() {
    let subject = subject("llama", DType::F64);
    let setup = setup(&subject, optimizer_settings()[0], 10);
    let ones = vec![1.0; 10];
    let metric = metric(&subject, &metric_settings()[3].1);
    let run = |microbatch| {
        metagradient(setup.sft(&ones, microbatch), metric.as_ref(), &Storage::default()).unwrap()
    };
    let whole = run(10).rewards;
    for microbatch in [1, 2] {
        assert!(relative_error(&run(microbatch).rewards, &whole) < 1e-12);
    }
}

/// Several devices add up a batch in another order than one, and always in the same.
#[test]
fn devices_change_nothing_but_rounding() {
    for model in ["gpt2", "llama"] {
        for optimizer in optimizer_settings() {
            let subject = subject(model, DType::F64);
            let mut setup = setup(&subject, optimizer, 10);
            let ones = vec![1.0; 10];
            let metric = metric(&subject, &metric_settings()[3].1);
            let mut run = |devices: usize| {
                setup.devices = vec![Device::flex(); devices];
                rewards_and_theta(setup.sft(&ones, 2), metric.as_ref(), &Storage::default())
            };
            let one = run(1);
            for devices in [2, 3, 5] {
                let several = run(devices);
                assert!(relative_error(&several.0, &one.0) < 1e-12, "{devices} devices");
                assert!(relative_error(&several.1, &one.1) < 1e-14, "{devices} devices");
                for _ in 0..3 {
                    assert_eq!(run(devices), several, "{devices} devices, run again");
                }
            }
        }
    }
}

fn host(tensor: &Tensor<1>) -> Vec<f64> {
    tensor.to_data_as::<f64>().iter::<f64>().collect()
}

fn rewards_and_theta(sft: Sft, metric: &dyn Metric, storage: &Storage) -> (Vec<f64>, Vec<f64>) {
    let mut theta = vec![];
    let show = |end: &Tensor<1>| theta = host(end);
    let rewards = metagradient_showing(sft, metric, storage, show).unwrap().rewards;
    (rewards, theta)
}

#[test]
fn strides_segments_and_spilling_change_no_bit() {
    let scratch = tempfile::tempdir().unwrap();
    for dtype in [DType::F32, DType::F64] {
        let subject = subject("gpt2", dtype);
        let mut setup = setup(&subject, optimizer_settings()[0], 10);
        // two epochs: every example stands in two batches
        setup.batches.extend(setup.batches.clone());
        let ones = vec![1.0; 10];
        let metric = metric(&subject, &metric_settings()[2].1);
        let run = |storage: &Storage| rewards_and_theta(setup.sft(&ones, 2), metric.as_ref(), storage);
        let plain = run(&Storage { stride: Some(1), ..Storage::default() });
        for segment in [None, Some(1), Some(2), Some(3), Some(8), Some(100)] {
            for stride in [None, Some(1), Some(2), Some(3)] {
                for spill in [false, true] {
                    let scratch = scratch.path().into();
                    let storage = Storage { segment, stride, spill, scratch, ..Storage::default() };
                    assert_eq!(run(&storage), plain, "{storage:?}");
                }
            }
        }
        assert_eq!(scratch.path().read_dir().unwrap().count(), 0, "spilled files are left behind");
    }
}

#[test]
fn metrics_that_share_a_run_have_the_bits_of_runs_of_their_own() {
    let subject = subject("gpt2", DType::F64);
    let setup = setup(&subject, optimizer_settings()[0], 10);
    let ones = vec![1.0; 10];
    let metrics: Vec<_> = metric_settings().iter().map(|(_, of)| metric(&subject, of)).collect();
    for segment in [None, Some(2)] {
        let storage = Storage { segment, ..Storage::default() };
        let together = metagradients(setup.sft(&ones, 2), &metrics, &storage).unwrap();
        assert_eq!(together.len(), metrics.len());
        for (together, metric) in together.iter().zip(&metrics) {
            let alone = metagradient(setup.sft(&ones, 2), metric.as_ref(), &storage).unwrap();
            assert_eq!(together.rewards, alone.rewards, "{storage:?}");
            assert_eq!(together.score, alone.score, "{storage:?}");
        }
    }
}

#[test]
fn faults_have_names() {
    let subject = subject("gpt2", DType::F64);
    let ones = vec![1.0; 10];
    let norm = metric(&subject, &metric_settings()[1].1);
    let mut setup = setup(&subject, optimizer_settings()[1], 10);
    let run = |setup: &Setup, storage: &Storage| {
        metagradient(setup.sft(&ones, 4), norm.as_ref(), storage).map(|_| ())
    };

    let nowhere =
        Storage { segment: Some(1), spill: true, scratch: "/nowhere/at/all".into(), ..Storage::default() };
    let error = run(&setup, &nowhere).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");

    let cancelled = Sft { cancelled: &|| true, ..setup.sft(&ones, 4) };
    assert!(matches!(metagradient(cancelled, norm.as_ref(), &Storage::default()), Err(Error::Cancelled)));

    setup.examples[3].scored.fill(false);
    assert!(matches!(run(&setup, &Storage::default()), Err(Error::NothingScored { index: 3 })));
    setup.examples[3] = Example::all_scored(vec![1; 5000]);
    let error = run(&setup, &Storage::default()).unwrap_err().to_string();
    assert!(error.contains("example 3") && error.contains("5000"), "{error}");
    setup.examples[3] = Example::all_scored(vec![1, 96]);
    let error = run(&setup, &Storage::default()).unwrap_err().to_string();
    assert!(error.contains("example 3 has token 96") && error.contains("0 to 95"), "{error}");
    setup.examples.clear();
    let empty = Sft { weights: &[], ..setup.sft(&ones, 4) };
    assert!(matches!(metagradient(empty, norm.as_ref(), &Storage::default()), Err(Error::NoExamples)));

    let broken = Subject { theta: subject.theta.clone() * f64::NAN, ..Subject::new("gpt2") };
    let setup = self::setup(&broken, optimizer_settings()[0], 4);
    let norm = metric(&broken, &metric_settings()[1].1);
    let ones = vec![1.0; 4];
    assert!(matches!(
        metagradient(setup.sft(&ones, 4), norm.as_ref(), &Storage::default()),
        Err(Error::NotFinite { .. })
    ));
}
