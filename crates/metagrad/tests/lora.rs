//! Metagradients of targets with LoRA adapters, in f64, against central differences: gradients of every listed metric,
//! and rewards through three steps. The frozen weights take no part in what a run keeps.

#[path = "subject/kinds.rs"]
mod kinds;
mod subject;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad::{
    Error, Metric, Sft, Storage, metagradient,
    metrics::{self, Question, Sources},
};
use dpg_models::{CausalLm, Example, Model};
use dpg_spec as spec;
use kinds::{assert_gradient, every_kind};
use subject::{Subject, context, random, relative_error, slopes};

/// A golden model with adapters, and a weight that they adapt.
const ADAPTED: [(&str, &str, &str); 3] = [
    ("gpt2", r#"{ "rank": 2 }"#, "transformer.h.1.attn.c_attn.weight"),
    (
        "llama",
        r#"{ "rank": 2, "alpha": 3.0, "targets": "all-linear" }"#,
        "model.layers.0.mlp.down_proj.weight",
    ),
    (
        "llama-bf16",
        r#"{ "rank": 3, "targets": ["v_proj", "up_proj"] }"#,
        "model.layers.1.self_attn.v_proj.weight",
    ),
];

fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(model)
}

fn load(model: &str, lora: &str) -> Model {
    let lora = serde_json::from_str(lora).unwrap();
    Model::load_adapted(&golden(model), &lora, 0, DType::F64, &[Device::flex()], None).unwrap()
}

/// A model with adapters, and the same without.
struct Adapted {
    subject: Subject,
    plain: Subject,
}

impl std::ops::Deref for Adapted {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.subject
    }
}

/// What metrics name, another model being one with weights of its own.
impl Sources<Error> for Adapted {
    fn folder(&self) -> &Path {
        self.plain.folder()
    }

    fn held_out(&self, held_out: &spec::HeldOut) -> Result<Vec<Example>, Error> {
        self.subject.held_out(held_out)
    }

    fn completion(&self, prompt: &str, completion: &str) -> Result<Example, Error> {
        self.subject.completion(prompt, completion)
    }

    fn questions(&self, choice: &spec::Choice) -> Result<Vec<Question>, Error> {
        self.subject.questions(choice)
    }

    fn model(&self, folder: &str) -> Result<(Arc<dyn CausalLm>, Tensor<1>), Error> {
        self.plain.model(folder)
    }

    fn vector(&self, vector: &spec::VectorFile) -> Result<Vec<f64>, Error> {
        self.plain.vector(vector)
    }
}

/// The model, its adapters some way from their start.
fn subject(model: &str, lora: &str) -> Adapted {
    let Model { lm, theta, .. } = load(model, lora);
    let n = lm.layout().len();
    let (folder, theta) = (golden(model), theta + random(n, 40) * 0.2);
    Adapted { subject: Subject { lm, folder, theta }, plain: Subject::new(model) }
}

fn metric(subject: &Adapted, settings: &spec::Metric) -> Result<Arc<dyn Metric>, Error> {
    metrics::from_spec(settings, &subject.lm, &subject.theta, 2, subject)
}

/// One of every kind; those of weights look at `parameter`.
fn settings(parameter: &str) -> Vec<spec::Metric> {
    let named = |settings: spec::Metric| {
        let mut value = serde_json::to_value(settings).unwrap();
        name(&mut value, parameter);
        serde_json::from_value(value).unwrap()
    };
    every_kind(named)
}

/// Puts a parameter's name into a metric of weights, or into those inside of a metric.
fn name(value: &mut serde_json::Value, parameter: &str) {
    if matches!(value["kind"].as_str(), Some("weight_norm" | "weight_pattern")) {
        value["parameter"] = parameter.into();
    }
    if value["kind"] == "external" {
        value["parameters"]["parameter"] = parameter.into();
    }
    match value {
        serde_json::Value::Object(object) => object.values_mut().for_each(|inner| name(inner, parameter)),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|inner| name(inner, parameter)),
        _ => {}
    }
}

#[test]
fn every_listed_metric_has_the_gradient_of_its_value_in_the_adapters() {
    for (model, lora, parameter) in ADAPTED {
        let subject = subject(model, lora);
        let n = subject.theta.dims()[0];
        for settings in settings(parameter) {
            let metric = metric(&subject, &settings).unwrap();
            let theta = subject.theta.clone() + random(n, 1) * 5e-2;
            assert_gradient(metric.as_ref(), &settings, &theta, 2..5, model);
        }
    }
}

#[test]
fn a_metric_of_weights_that_are_not_adapted_is_refused_by_its_key() {
    let (model, lora, _) = ADAPTED[0];
    let subject = subject(model, lora);
    for parameter in ["lm_head", "transformer.h.0.mlp.c_fc.weight"] {
        let norm = format!(r#"{{ "kind": "weight_norm", "parameter": "{parameter}" }}"#);
        let Err(error) = metric(&subject, &serde_json::from_str(&norm).unwrap()) else {
            panic!("{parameter}")
        };
        assert!(matches!(error, Error::Metric { field: "parameter", .. }), "{error}");
        assert!(error.to_string().contains("target.lora.targets"), "{error}");
    }
}

fn optimizers() -> [spec::Optimizer; 3] {
    let adamw =
        spec::AdamW { learning_rate: 1e-2, eps_root: 1e-4, weight_decay: 1e-2, ..spec::AdamW::default() };
    let muon = spec::Muon { learning_rate: 1e-2, eps_root: 1e-4, ..spec::Muon::default() };
    [
        spec::Optimizer::Adamw(adamw),
        spec::Optimizer::Muon(muon),
        spec::Optimizer::Sgd(spec::Sgd { learning_rate: 0.1, weight_decay: 1e-2 }),
    ]
}

#[test]
fn rewards_are_derivatives_through_three_steps() {
    for (model, lora, parameter) in ADAPTED {
        let subject = subject(model, lora);
        let examples = subject.texts(7, 3);
        let batches = [vec![0, 1, 2], vec![3, 4, 5], vec![6]];
        for optimizer in optimizers() {
            let recipe = spec::Sft { optimizer, max_grad_norm: 0.5, ..spec::Sft::default() };
            let sft = |weights: &[f64], then: &dyn Fn(Sft) -> Vec<f64>| {
                then(Sft {
                    lm: subject.lm.as_ref(),
                    theta: &subject.theta,
                    examples: &examples,
                    weights,
                    batches: &batches,
                    recipe: &recipe,
                    microbatch: 2,
                    devices: &[Device::flex()],
                    cancelled: &|| false,
                })
            };
            let kinds = ["held_out_loss", "weight_norm", "distance"];
            let is_one = |settings: &spec::Metric| {
                let kind = serde_json::to_value(settings).unwrap()["kind"].clone();
                kinds.iter().any(|one| kind == *one)
            };
            for settings in settings(parameter).into_iter().filter(is_one) {
                let metric = metric(&subject, &settings).unwrap();
                let rewards = |storage: &Storage| {
                    let run = |sft: Sft| metagradient(sft, metric.as_ref(), storage).unwrap().rewards;
                    sft(&[1.0; 7], &run)
                };
                let phi = |sft: Sft| vec![metric.score(&sft.train().unwrap(), context()).unwrap().value];
                let of_weight = |index: usize| {
                    slopes(|h| {
                        let mut weights = [1.0; 7];
                        weights[index] += h;
                        sft(&weights, &phi)
                    })[0]
                };
                let measured: Vec<f64> = (0..7).map(of_weight).collect();
                let found = rewards(&Storage::default());
                let error = relative_error(&found, &measured);
                assert!(error < 1e-6, "{model}, {optimizer:?}, {settings:?}: off by {error:e}");
                let segments = Storage { segment: Some(1), ..Storage::default() };
                assert_eq!(rewards(&segments), found, "{model}: storage changes no bit");
            }
        }
    }
}

#[test]
fn traces_of_one_step_give_the_rewards_of_a_dual_pass() {
    for (model, lora, _) in ADAPTED {
        let subject = subject(model, lora);
        let held_out = r#"{ "kind": "held_out_loss", "data": { "path": "-", "column": "text" } }"#;
        let metric = metric(&subject, &serde_json::from_str(held_out).unwrap()).unwrap();
        let recipe = spec::Sft { optimizer: optimizers()[0], max_grad_norm: 0.5, ..spec::Sft::default() };
        let rewards = |microbatch: usize| {
            let sft = Sft {
                lm: subject.lm.as_ref(),
                theta: &subject.theta,
                examples: &subject.texts(5, 3),
                weights: &[1.0, 0.5, 2.0, 1.0, 1.0],
                batches: &[(0..5).collect()],
                recipe: &recipe,
                microbatch,
                devices: &[Device::flex()],
                cancelled: &|| false,
            };
            metagradient(sft, metric.as_ref(), &Storage::default()).unwrap().rewards
        };
        let (traced, dual) = (rewards(5), rewards(4));
        assert!(relative_error(&traced, &dual) < 1e-11, "{model}: {traced:?} for {dual:?}");
        assert!(traced != dual, "{model}: nothing was traced");
    }
}

/// Vectors are counted in adapters, and a frozen head has no gradient.
#[test]
fn a_run_keeps_vectors_of_adapters_alone() {
    let (model, lora, _) = ADAPTED[1];
    let adapted = subject(model, lora);
    let whole = &adapted.plain;
    let bytes = |subject: &Subject| {
        let examples = vec![Example::all_scored(vec![1, 2, 3]); 4];
        Storage::default().bytes(&Sft {
            lm: subject.lm.as_ref(),
            theta: &subject.theta,
            examples: &examples,
            weights: &[],
            batches: &vec![vec![0, 1, 2, 3]; 8],
            recipe: &spec::Sft::default(),
            microbatch: 4,
            devices: &[Device::flex()],
            cancelled: &|| false,
        })
    };
    assert_eq!(bytes(&adapted).vectors, 13 * 8 * adapted.lm.layout().len() as u64);
    let head = dpg_models::width(whole.lm.as_ref()) * whole.lm.vocab_size();
    assert_eq!(bytes(whole).pass - bytes(&adapted).pass, 2 * 8 * head as u64);
}

/// The start that the reference in PyTorch reads is the one that a spec's seed draws; `DPG_BLESS=1` writes it anew.
#[test]
fn the_references_start_from_the_adapters_of_seed_0() {
    for (model, lora, _) in &ADAPTED[..2] {
        let Model { lm, theta, .. } = &load(model, lora);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/adapters").join(model);
        if std::env::var_os("DPG_BLESS").is_some() {
            let exported = tempfile::tempdir().unwrap();
            load(model, lora).export(exported.path(), theta).unwrap();
            std::fs::create_dir_all(&folder).unwrap();
            let file = "adapter_model.safetensors";
            std::fs::copy(exported.path().join(file), folder.join(file)).unwrap();
        }
        let found = dpg_models::load_adapter(&folder, lm.layout(), theta).unwrap().unwrap();
        let host = |vector: &Tensor<1>| vector.to_data_as::<f64>().iter::<f64>().collect::<Vec<_>>();
        assert_eq!(host(&found), host(theta), "{model}");
    }
}
