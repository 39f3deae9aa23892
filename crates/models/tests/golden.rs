//! Logits of every golden model equal transformers' in f32 and in f64.

use std::{fs, path::PathBuf};

use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use dpg_models::{CausalLm, Params, Tokens, architecture, from_config, logits, weights};
use safetensors::SafeTensors;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// Tokens `[2, 11]` and their logits `[2, 11, vocab]` in f32 and f64.
struct Expected {
    tokens: Vec<Vec<u32>>,
    f32: Vec<f64>,
    f64: Vec<f64>,
}

fn expected(name: &str) -> Expected {
    let bytes = fs::read(golden("logits").join(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: &str| file.tensor(name).unwrap().data().as_chunks::<8>().0.to_vec();
    let tokens: Vec<u32> = data("tokens").iter().map(|&b| i64::from_le_bytes(b) as u32).collect();
    let f32 = file.tensor("f32").unwrap();
    Expected {
        tokens: tokens.chunks(11).map(<[u32]>::to_vec).collect(),
        f32: f32.data().as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        f64: data("f64").into_iter().map(f64::from_le_bytes).collect(),
    }
}

fn computed<E: Element>(lm: &dyn CausalLm, name: &str, tokens: &[Vec<u32>], dtype: DType) -> Vec<f64> {
    let theta: Vec<E> = weights::load(&golden(name), lm.layout()).unwrap();
    let data = TensorData::new(theta, [lm.layout().len()]);
    let theta = Tensor::<1>::from_data(data, (&Device::flex(), dtype));
    let params = Params::new(lm.layout(), &theta);
    let hidden = lm.hidden(&params, &Tokens::right_padded(tokens), None);
    logits(lm, &params, hidden).primal.into_data().iter::<f64>().collect()
}

fn check(lm: &dyn CausalLm, name: &str) {
    let Expected { tokens, f32, f64 } = expected(name);
    let error = |found: Vec<f64>, expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let single = error(computed::<f32>(lm, name, &tokens, DType::F32), &f32);
    let double = error(computed::<f64>(lm, name, &tokens, DType::F64), &f64);
    println!("{name}: {single:.1e} in f32, {double:.1e} in f64");
    assert!(single < 1e-4 && double < 1e-9, "{name}: {single:e} in f32, {double:e} in f64");
}

#[test]
fn logits_equal_transformers() {
    let names: Vec<String> = fs::read_dir(golden("logits"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 10);
    for name in names {
        check(&*architecture(&golden(&name)).unwrap(), &name);
    }
}

#[test]
fn configs_of_transformers_4_describe_the_same_models() {
    for entry in fs::read_dir(golden("legacy")).unwrap() {
        let path = entry.unwrap().path();
        let config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        check(&*from_config(config, &path).unwrap(), path.file_stem().unwrap().to_str().unwrap());
    }
}
