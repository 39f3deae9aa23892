use std::path::PathBuf;

use super::*;
use crate::{
    Dual, Example, Logits, MatmulPrecision, Model, Params, Predictions, StoredType, architecture,
    log_probs_at, places, weights,
};

fn golden(name: &str) -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn load(name: &str, lora: &Lora, dtype: DType) -> Model {
    Model::load_adapted(&golden(name), lora, 7, dtype, &[Device::flex()], None).unwrap()
}

fn all_linear() -> Lora {
    serde_json::from_str(r#"{ "rank": 3, "alpha": 5.0, "targets": "all-linear" }"#).unwrap()
}

fn random(n: usize, key: u64, dtype: DType) -> Tensor<1> {
    let mut rng = keyed_rng([key, 0, 0, 0]);
    let values: Vec<f64> = (0..n).map(|_| rng.random_range(-0.3..0.3)).collect();
    Tensor::<1>::from_data(values.as_slice(), (&Device::flex(), DType::F64)).cast(dtype)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.to_data_as::<f64>().iter().collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

fn rows() -> [Example; 2] {
    [vec![3, 1, 4, 1, 5, 9], vec![2, 7, 18]].map(Example::all_scored)
}

fn log_probs(lm: &dyn CausalLm, params: &Params) -> Dual<1> {
    log_probs_at(lm, params, &rows(), &places(&rows()))
}

/// The gradient of the sum of squares, of log-probabilities or of their tangents.
fn gradient(lm: &dyn CausalLm, params: &Params) -> Vec<f64> {
    let predictions = Predictions::at(lm, params, &rows(), &places(&rows()));
    let found = predictions.log_probs();
    let found = host(found.tangent.unwrap_or(found.primal));
    let twice: Vec<f64> = found.iter().map(|number| 2.0 * number).collect();
    host(params.gradient(predictions.weighed(&twice).1.backward()))
}

#[test]
fn names_shapes_and_targets_are_pefts() {
    let names = |model: &str, lora: &Lora| -> Vec<(String, Vec<usize>)> {
        let lm = architecture(&golden(model)).unwrap();
        let layout = adapter_layout(lm.as_ref(), lora).unwrap();
        layout.params().iter().map(|param| (param.name.clone(), param.stored_shape())).collect()
    };
    let gpt2 = names("gpt2", &Lora::default());
    assert_eq!(gpt2.len(), 4);
    assert_eq!(gpt2[0], ("base_model.model.transformer.h.0.attn.c_attn.lora_A.weight".into(), vec![8, 16]));
    assert_eq!(gpt2[3], ("base_model.model.transformer.h.1.attn.c_attn.lora_B.weight".into(), vec![48, 8]));
    let llama = names("llama", &Lora::default());
    assert_eq!(llama[3].0, "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight");
    assert_eq!((llama.len(), names("llama", &all_linear()).len()), (8, 28));
    // the end of a name, from a dot on
    let of =
        |target: &str| Lora { targets: Some(LoraTargets::Named(vec![target.into()])), ..Lora::default() };
    assert_eq!(names("gpt2", &of("attn.c_proj")).len(), 4);
    let lm = architecture(&golden("llama")).unwrap();
    for target in ["proj", "lm_head", "embed_tokens", "c_attn"] {
        let error = adapter_layout(lm.as_ref(), &of(target)).unwrap_err().to_string();
        assert!(error.contains(target) && error.contains("`q_proj`, `k_proj`"), "{error}");
    }
}

/// A pass with adapters is one of the model whose weights are merged with them, and so are its tangents and gradients
/// by the chain rule.
#[test]
fn adapters_are_the_merged_model() {
    for (name, lora) in [
        ("gpt2", Lora::default()),
        ("gpt2-untied", all_linear()),
        ("llama", all_linear()),
        ("qwen3", all_linear()),
    ] {
        let model = load(name, &lora, DType::F64);
        let (lm, layout) = (model.lm.as_ref(), model.lm.layout());
        let adapters = layout.adapters().unwrap();
        let plain = architecture(&golden(name)).unwrap();
        let start = host(adapters.merged(layout, &model.theta));
        assert_eq!(
            start,
            weights::load::<f64>(&golden(name), plain.layout()).unwrap(),
            "{name}: B is 0 at first"
        );

        let theta = random(layout.len(), 1, DType::F64);
        let merged = adapters.merged(layout, &theta);
        let (ours, whole) = (Params::tracked(layout, &theta), Params::tracked(plain.layout(), &merged));
        let (found, expected) = (log_probs(lm, &ours).primal, log_probs(plain.as_ref(), &whole).primal);
        assert!(distance(&host(found), &host(expected)) < 1e-13, "{name}");
        let of_whole = Tensor::<1>::from_data(
            gradient(plain.as_ref(), &whole).as_slice(),
            (&Device::flex(), DType::F64),
        );
        let expected = adapters.gradient(layout, &theta, &of_whole);
        assert!(distance(&gradient(lm, &ours), &host(expected)) < 1e-12, "{name}");

        // along a direction, against the difference quotient of merged models
        let direction = random(layout.len(), 2, DType::F64);
        let params = Params::new(layout, &theta).with_tangent(layout, &direction);
        let tangent = host(log_probs(lm, &params).tangent.unwrap());
        let at = |h: f64| {
            let merged = adapters.merged(layout, &(theta.clone() + direction.clone() * h));
            host(log_probs(plain.as_ref(), &Params::new(plain.layout(), &merged)).primal)
        };
        let h = 1e-5;
        let slope: Vec<f64> = at(h).iter().zip(at(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
        assert!(distance(&tangent, &slope) < 1e-7, "{name}");
    }
}

/// Weights that stay in bf16 give the bits of the same weights in f32: widening is exact.
#[test]
fn frozen_weights_keep_the_type_of_their_file_and_change_no_bit() {
    let narrow = load("llama-bf16", &all_linear(), DType::F32);
    let folder = tempfile::tempdir().unwrap();
    let plain = architecture(&golden("llama-bf16")).unwrap();
    let weights = weights::load::<f32>(&golden("llama-bf16"), plain.layout()).unwrap();
    crate::export(&golden("llama-bf16"), folder.path(), plain.layout(), &weights, StoredType::F32).unwrap();
    let wide =
        Model::load_adapted(folder.path(), &all_linear(), 7, DType::F32, &[Device::flex()], None).unwrap();
    let bytes = |model: &Model| model.lm.layout().adapters().unwrap().frozen().bytes() as usize;
    let norms: usize =
        plain.layout().params().iter().filter(|param| param.shape.len() == 1).map(Param::len).sum();
    assert_eq!(bytes(&wide), 4 * plain.layout().len());
    assert_eq!(bytes(&narrow), 2 * plain.layout().len() + 2 * norms);
    let pass = |model: &Model, dtype: DType| {
        let layout = model.lm.layout();
        let (theta, direction) = (random(layout.len(), 1, dtype), random(layout.len(), 2, dtype));
        let params = Params::tracked(layout, &theta).with_tangent(layout, &direction);
        let found = log_probs(model.lm.as_ref(), &params);
        let curvature = gradient(model.lm.as_ref(), &params);
        [host(found.primal), host(found.tangent.unwrap()), curvature]
    };
    assert_eq!(pass(&narrow, DType::F32), pass(&wide, DType::F32));
    // without the forms of the CPU as well
    let elsewhere = crate::fused::as_elsewhere(|| pass(&narrow, DType::F32));
    for (here, elsewhere) in pass(&narrow, DType::F32).iter().zip(&elsewhere) {
        assert!(distance(here, elsewhere) < 1e-5);
    }
}

/// A head that has no tangent is one whose tangent is 0, in chunks as well.
#[test]
fn a_frozen_head_is_one_without_a_tangent() {
    let (rows, width, vocab) = (5, 4, 9);
    let matrix = |n: usize, m: usize, key: u64| random(n * m, key, DType::F64).reshape([n, m]);
    let run = |weight: Dual<2>| {
        let leaves = [matrix(rows, width, 1), matrix(rows, width, 2)].map(|x| x.autodiff().require_grad());
        let h = Dual::new(leaves[0].clone(), Some(leaves[1].clone()));
        let logits = Logits::new(h, weight, [false, false], 2, MatmulPrecision::F32);
        let (y, sum) = Predictions::of(logits, vec![1, 8, 0, 3, 3]).weighed(&[0.5, -1.0, 2.0, 0.0, 1.5]);
        let tape = sum.backward();
        let mut found = vec![host(y.primal), host(y.tangent.unwrap())];
        found.extend(leaves.iter().map(|leaf| host(leaf.grad(&tape).unwrap())));
        found
    };
    // numbers that bf16 holds
    let narrow = matrix(width, vocab, 3).cast(DType::BF16);
    let weight = narrow.clone().cast(DType::F64).autodiff();
    let expected = run(Dual::new(weight.clone(), Some(weight.zeros_like())));
    let (frozen, stored) = (|| run(weight.clone().into()), || run(narrow.clone().autodiff().into()));
    for found in [frozen(), stored(), crate::fused::as_elsewhere(frozen), crate::fused::as_elsewhere(stored)]
    {
        for (found, expected) in found.iter().zip(&expected) {
            assert!(distance(found, expected) < 1e-13, "{found:?} {expected:?}");
        }
    }
}

#[test]
fn an_exported_folder_is_read_again_and_says_what_it_adapts() {
    let model = load("llama", &all_linear(), DType::F32);
    let (layout, folder) = (model.lm.layout(), tempfile::tempdir().unwrap());
    let theta = random(layout.len(), 3, DType::F32);
    model.export(folder.path(), &theta).unwrap();
    name_base(folder.path(), "hf:org/model@v2").unwrap();
    let read = load_adapter(folder.path(), layout, &theta).unwrap().unwrap();
    assert_eq!(host(read), host(theta.clone()));
    let config = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (&config["base_model_name_or_path"], &config["revision"]),
        (&"org/model".into(), &"v2".into())
    );
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(3), Some(5.0)));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 7);
    assert!(folder.path().join("tokenizer.json").exists());
    let other = load("llama", &Lora::default(), DType::F32);
    assert!(load_adapter(folder.path(), other.lm.layout(), &theta).is_err(), "other ranks");
    assert!(load_adapter(&golden("llama"), layout, &theta).unwrap().is_none());
}
