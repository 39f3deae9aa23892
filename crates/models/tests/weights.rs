//! Weights on disk: every golden folder loads, comes back as it was, and bad folders are refused.

use std::{fs, path::PathBuf};

use dpg_models::{Error, Layout, StoredType, architecture, export, weights};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// A copy of a golden folder that a test may damage.
fn copy(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn load(name: &str) -> (Layout, Vec<f64>) {
    let folder = golden(name);
    let layout = architecture(&folder).unwrap().layout().clone();
    let theta = weights::load(&folder, &layout).unwrap();
    (layout, theta)
}

/// The error of loading a folder made from `name` by `damage`, as text.
fn refused(name: &str, damage: impl Fn(&TempDir)) -> String {
    let folder = copy(name);
    let layout = architecture(folder.path()).unwrap().layout().clone();
    damage(&folder);
    weights::load::<f32>(folder.path(), &layout).unwrap_err().to_string()
}

#[test]
fn an_element_is_where_its_name_and_orientation_say() {
    let bytes = fs::read(golden("llama").join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = |name: &str, at: usize| {
        let bytes = file.tensor(name).unwrap().data();
        f64::from(f32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().unwrap()))
    };
    let (layout, theta) = load("llama");
    let name = "model.layers.1.mlp.gate_proj.weight";
    let gate = layout.find(name).unwrap();
    assert_eq!((gate.shape.as_slice(), gate.transposed), ([16, 24].as_slice(), true));
    // input 3, output 5
    assert_eq!(theta[gate.offset + 3 * 24 + 5], stored(name, 5 * 16 + 3));
    let name = "model.embed_tokens.weight";
    assert_eq!(theta[layout.find(name).unwrap().offset + 7 * 16 + 2], stored(name, 7 * 16 + 2));
}

#[test]
fn shards_and_missing_prefixes_make_no_difference() {
    let (layout, sharded) = load("llama-sharded");
    let folder = TempDir::new().unwrap();
    weights::save(folder.path(), &layout, &sharded, StoredType::F32).unwrap();
    assert_eq!(weights::load::<f64>(folder.path(), &layout).unwrap(), sharded);
    // the hub's file has no `transformer.` and contains attention masks
    assert_eq!(load("gpt2-hub"), load("gpt2"));
}

#[test]
fn what_is_saved_comes_back() {
    for name in ["gpt2", "gpt2-untied", "llama-tied", "qwen3"] {
        let (layout, theta) = load(name);
        // numbers that no narrower type holds
        let theta: Vec<f64> = theta.into_iter().map(|x| x / 3.0).collect();
        let folder = TempDir::new().unwrap();
        let round_trip = |precision| {
            weights::save(folder.path(), &layout, &theta, precision).unwrap();
            weights::load::<f64>(folder.path(), &layout).unwrap()
        };
        assert_eq!(round_trip(StoredType::F64), theta, "{name}");
        let f32: Vec<f64> = theta.iter().map(|&x| f64::from(x as f32)).collect();
        assert_eq!(round_trip(StoredType::F32), f32, "{name}");
        let bf16 = round_trip(StoredType::Bf16);
        assert!(bf16.iter().zip(&theta).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0), "{name}");
        let f16 = round_trip(StoredType::F16);
        assert!(f16.iter().zip(&theta).all(|(a, b)| (a - b).abs() <= b.abs() / 2048.0 + 1e-7), "{name}");
    }
}

#[test]
fn a_saved_file_is_the_one_that_transformers_wrote() {
    for name in ["gpt2", "gpt2-untied", "llama", "llama-tied", "llama-bf16", "qwen2", "qwen3"] {
        let (layout, theta) = load(name);
        let precision = if name == "llama-bf16" { StoredType::Bf16 } else { StoredType::F32 };
        let folder = TempDir::new().unwrap();
        weights::save(folder.path(), &layout, &theta, precision).unwrap();
        let contents = |folder: PathBuf| {
            let bytes = fs::read(folder.join("model.safetensors")).unwrap();
            let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let mut tensors: Vec<_> = tensors
                .tensors()
                .into_iter()
                .map(|(name, tensor)| (name, tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
                .collect();
            tensors.sort_by(|a, b| a.0.cmp(&b.0));
            (header.metadata().clone(), tensors)
        };
        assert_eq!(contents(folder.path().into()), contents(golden(name)), "{name}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
    }
}

#[test]
fn an_exported_folder_is_a_model_of_its_own() {
    let (layout, theta) = load("qwen2");
    let folder = TempDir::new().unwrap();
    let exported = folder.path().join("final");
    export(&golden("qwen2"), &exported, &layout, &theta, StoredType::F64).unwrap();
    let model = architecture(&exported).unwrap();
    assert_eq!(weights::load::<f64>(&exported, model.layout()).unwrap(), theta);
    let config = fs::read_to_string(exported.join("config.json")).unwrap();
    assert!(config.contains(r#""dtype": "float64""#), "{config}");
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"] {
        assert_eq!(fs::read(exported.join(file)).unwrap(), fs::read(golden("qwen2").join(file)).unwrap());
    }
}

#[test]
fn damaged_folders_are_refused_by_name() {
    let cut = refused("gpt2", |folder| {
        let path = folder.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(cut.contains("model.safetensors") && cut.contains("damaged or cut"), "{cut}");

    let garbage = refused("gpt2", |folder| {
        fs::write(folder.path().join("model.safetensors"), b"<html>not found</html>").unwrap();
    });
    assert!(garbage.contains("model.safetensors") && garbage.contains("damaged"), "{garbage}");

    let absent = refused("gpt2", |folder| fs::remove_file(folder.path().join("model.safetensors")).unwrap());
    assert!(absent.contains("`model.safetensors`") && absent.contains("save_pretrained"), "{absent}");

    let shard = "model-00002-of-00003.safetensors";
    let absent = refused("llama-sharded", |folder| fs::remove_file(folder.path().join(shard)).unwrap());
    assert!(absent.contains(shard) && absent.contains("model.safetensors.index.json"), "{absent}");

    let index = "model.safetensors.index.json";
    let malformed = refused("llama-sharded", |folder| fs::write(folder.path().join(index), "{}").unwrap());
    assert!(malformed.contains(index) && malformed.contains("weight_map"), "{malformed}");
}

#[test]
fn a_wrong_tensor_is_refused_by_name() {
    let (layout, _) = load("llama");
    let name = "model.norm.weight";
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(golden("llama").join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let loaded_with = |replacement: Option<TensorView>| {
        let others = file.tensors().into_iter().filter(|(other, _)| other != name);
        let tensors: Vec<_> = others.chain(replacement.map(|tensor| (name.to_owned(), tensor))).collect();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        weights::load::<f32>(folder.path(), &layout).unwrap_err()
    };

    let missing = loaded_with(None);
    assert!(matches!(&missing, Error::MissingTensor { name: found, .. } if found == name), "{missing}");

    let zeros = [0; 64];
    let shape = loaded_with(Some(TensorView::new(Dtype::F32, vec![8], &zeros[..32]).unwrap()));
    assert!(
        matches!(&shape, Error::Shape { name: found, expected, found: has, .. }
            if found == name && *expected == [16] && *has == [8]),
        "{shape}"
    );

    let integers = loaded_with(Some(TensorView::new(Dtype::I32, vec![16], &zeros).unwrap())).to_string();
    assert!(integers.contains(name) && integers.contains("I32"), "{integers}");

    let nan = f32::NAN.to_le_bytes().repeat(16);
    let nan = loaded_with(Some(TensorView::new(Dtype::F32, vec![16], &nan).unwrap())).to_string();
    assert!(nan.contains(name) && nan.contains("NaN"), "{nan}");
}
