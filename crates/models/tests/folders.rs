//! Model folders as they turn up in the wild: what transformers reads is read as it reads it, and of the
//! rest the cause is named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dpg_models::{CausalLm, Model, architecture, check_tokens, from_config, weights};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn copy(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a golden folder with other tensors.
fn with_tensors(name: &str, change: impl Fn(&mut Tensors)) -> TempDir {
    let folder = copy(name);
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut tensors: Tensors = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name, (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    folder
}

fn renamed(tensors: &mut Tensors, name: impl Fn(&str) -> String) {
    *tensors = std::mem::take(tensors).into_iter().map(|(old, tensor)| (name(&old), tensor)).collect();
}

fn config(name: &str) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(golden(name).join("config.json")).unwrap()).unwrap()
}

/// A golden model's architecture with some keys of its config.json changed.
fn model(name: &str, changes: &Value) -> Result<Box<dyn CausalLm>, String> {
    let mut config = config(name);
    config.extend(changes.as_object().unwrap().clone());
    from_config(config.into(), Path::new("config.json")).map_err(|error| error.to_string())
}

fn theta(folder: &Path) -> Result<Vec<f64>, String> {
    let lm = architecture(folder).map_err(|error| error.to_string())?;
    weights::load(folder, lm.layout()).map_err(|error| error.to_string())
}

#[test]
fn folders_of_base_models_are_read() {
    for (name, prefix) in [
        ("llama", "model."),
        ("llama-tied", "model."),
        ("qwen3", "model."),
        ("gpt2", "transformer."),
        ("gpt2-untied", "transformer."),
    ] {
        let flat = with_tensors(name, |tensors| {
            renamed(tensors, |old| old.strip_prefix(prefix).unwrap_or(old).to_owned());
        });
        assert_eq!(theta(flat.path()).unwrap(), theta(&golden(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_tied_head_is_read_wherever_it_stands() {
    let (head, table) = ("lm_head.weight", "model.embed_tokens.weight");
    let expected = theta(&golden("llama-tied")).unwrap();
    let beside = with_tensors("llama-tied", |tensors| {
        tensors.insert(head.into(), tensors[table].clone());
    });
    assert_eq!(theta(beside.path()).unwrap(), expected);
    let instead = with_tensors("llama-tied", |tensors| renamed(tensors, |old| old.replace(table, head)));
    assert_eq!(theta(instead.path()).unwrap(), expected);
    // transformers 4 takes the embedding, and this is followed; version 5 would untie them
    let other = with_tensors("llama-tied", |tensors| {
        let (dtype, shape, data) = tensors[table].clone();
        tensors.insert(head.into(), (dtype, shape, vec![0; data.len()]));
    });
    assert_eq!(theta(other.path()).unwrap(), expected);
}

#[test]
fn types_may_be_mixed() {
    let mixed = with_tensors("llama", |tensors| {
        for (number, tensor) in tensors.values_mut().enumerate() {
            let numbers = tensor.2.as_chunks::<4>().0.iter().map(|&chunk| f32::from_le_bytes(chunk));
            (tensor.0, tensor.2) = match number % 4 {
                0 => (Dtype::BF16, numbers.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect()),
                1 => (Dtype::F16, numbers.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect()),
                2 => (Dtype::F64, numbers.flat_map(|x| f64::from(x).to_le_bytes()).collect()),
                _ => continue,
            };
        }
    });
    let (read, exact) = (theta(mixed.path()).unwrap(), theta(&golden("llama")).unwrap());
    assert!(read.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0));
    assert_ne!(read, exact);
}

#[test]
fn null_is_pythons_none_and_what_is_absent_has_its_default() {
    let layout = |name: &str, changes: Value| model(name, &changes).unwrap().layout().clone();
    let nulls = json!({"tie_word_embeddings": null, "mlp_bias": null, "attention_bias": null,
        "use_sliding_window": null, "rope_scaling": null, "pad_token_id": null});
    assert_eq!(layout("llama", nulls), layout("llama", json!({})));
    // without a width of its own a head has its share of the hidden width
    let share = layout("llama", json!({"head_dim": null}));
    assert_eq!(share.find("model.layers.0.self_attn.q_proj.weight").unwrap().shape, [16, 16]);
    // null is false, and not the default: GPT-2's is true
    let named = |layout: &dpg_models::Layout| layout.find("lm_head.weight").is_ok();
    assert!(named(&layout("gpt2", json!({"tie_word_embeddings": null}))));
    let mut config = config("gpt2");
    for absent in ["tie_word_embeddings", "n_inner", "activation_function", "layer_norm_epsilon"] {
        config.remove(absent);
    }
    let lm = from_config(config.into(), Path::new("config.json")).unwrap();
    assert_eq!(*lm.layout(), layout("gpt2", json!({})));
    // Qwen has neither of these biases, whatever is said
    let said = layout("qwen2", json!({"mlp_bias": true, "attention_bias": true}));
    assert_eq!(said, layout("qwen2", json!({})));
    // and Llama no window
    assert_eq!(layout("llama", json!({"use_sliding_window": true})), layout("llama", json!({})));
    let unused =
        json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2, "layer_types": null});
    assert_eq!(layout("qwen2", unused), layout("qwen2", json!({})));
}

#[test]
fn the_padding_row_is_pytorchs() {
    let row = |name: &str, pad: Value| model(name, &json!({"pad_token_id": pad})).unwrap().padding();
    for name in ["llama", "llama-tied", "qwen2", "qwen3"] {
        assert_eq!(row(name, json!(7)), Some(7), "{name}");
        assert_eq!(row(name, json!(0)), Some(0), "{name}");
        // as an index from the end
        assert_eq!(row(name, json!(-1)), Some(95), "{name}");
        assert_eq!(row(name, Value::Null), None, "{name}");
        // transformers loads no such model
        assert_eq!(row(name, json!(96)), None, "{name}");
        assert_eq!(row(name, json!(-97)), None, "{name}");
    }
    assert_eq!(row("gpt2", json!(7)), None);
}

#[test]
fn a_configuration_that_is_not_supported_is_named() {
    for (name, changes, words) in [
        ("llama", json!({"quantization_config": {"quant_method": "awq", "bits": 4}}), ["quantised", "awq"]),
        (
            "llama",
            json!({"quantization_config": {"load_in_4bit": true}}),
            ["quantised", "quantization_config"],
        ),
        ("llama", json!({"hidden_act": "gelu"}), ["hidden_act", "silu"]),
        ("llama", json!({"hidden_size": null}), ["hidden_size", "null"]),
        ("llama", json!({"model_type": null}), ["model_type", "llama"]),
        ("llama", json!({"model_type": "mixtral"}), ["mixtral", "qwen3"]),
        ("llama", json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), ["rope_type", "yarn"]),
        (
            "qwen2",
            json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1, "layer_types": null}),
            ["use_sliding_window", "false"],
        ),
        (
            "qwen3",
            json!({"use_sliding_window": true, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}),
            ["use_sliding_window", "sliding_attention"],
        ),
    ] {
        let message = model(name, &changes).unwrap_err();
        assert!(words.iter().all(|word| message.contains(word)), "{changes}: {message}");
    }
    // switched off, and the weights are plain
    assert!(
        model("llama", &json!({"quantization_config": {"load_in_8bit": false, "load_in_4bit": false}}))
            .is_ok()
    );
}

#[test]
fn tensors_of_another_kind_are_named() {
    let prefixed = |prefix: &'static str| {
        with_tensors("llama", move |tensors| renamed(tensors, |old| format!("{prefix}{old}")))
    };
    let quantised = with_tensors("llama", |tensors| {
        renamed(tensors, |old| old.replace("q_proj.weight", "q_proj.qweight"));
    });
    let eight_bits = with_tensors("llama", |tensors| {
        let tensor = tensors.get_mut("model.layers.0.self_attn.q_proj.weight").unwrap();
        tensor.0 = Dtype::F8_E4M3;
        tensor.2.truncate(tensor.1.iter().product());
    });
    let headless = with_tensors("llama", |tensors| drop(tensors.remove("lm_head.weight")));
    let experts = with_tensors("llama", |tensors| {
        renamed(tensors, |old| old.replace("mlp.gate_proj", "block_sparse_moe.experts.0.w1"));
    });
    let fewer = with_tensors("llama", |tensors| drop(tensors.remove("model.norm.weight")));
    for (folder, words) in [
        (prefixed("_orig_mod."), ["`_orig_mod.`", "torch.compile"]),
        (prefixed("module."), ["`module.`", "data-parallel"]),
        (prefixed("base_model.model."), ["`base_model.model.`", "merge_and_unload"]),
        (quantised, ["q_proj.qweight", "quantised"]),
        (eight_bits, ["F8_E4M3", "quantised"]),
        (headless, ["lm_head.weight", "tie_word_embeddings"]),
        (experts, ["mixture of experts", "not supported"]),
        (fewer, ["model.norm.weight", "20 tensors"]),
    ] {
        let message = theta(folder.path()).unwrap_err();
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    }
}

#[test]
fn files_that_stand_for_something_else_are_named() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 1252128\n";
    let refused = |change: &dyn Fn(&Path)| {
        let folder = copy("llama");
        change(folder.path());
        Model::load(folder.path(), burn::tensor::DType::F32, &burn::tensor::Device::flex())
            .unwrap_err()
            .to_string()
    };
    let without = |folder: &Path, file: &str| fs::remove_file(folder.join(file)).unwrap();
    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        let message = refused(&|folder| fs::write(folder.join(file), POINTER).unwrap());
        assert!(message.contains(file) && message.contains("git lfs pull"), "{message}");
    }
    for (there, words) in [
        ("pytorch_model.bin", "convert"),
        ("pytorch_model.bin.index.json", "convert"),
        ("model-q4.gguf", "GGUF"),
        ("model-00001-of-00002.safetensors", "model.safetensors.index.json"),
    ] {
        let message = refused(&|folder| {
            without(folder, "model.safetensors");
            fs::write(folder.join(there), "x").unwrap();
        });
        assert!(message.contains(there) && message.contains(words), "{message}");
    }
    let message = refused(&|folder| {
        without(folder, "config.json");
        fs::write(folder.join("model.gguf"), "x").unwrap();
    });
    assert!(message.contains("config.json") && message.contains("GGUF"), "{message}");
    // beside a model, too: transformers would load the base and put the adapter on it
    let message = refused(&|folder| {
        let adapter = r#"{"peft_type": "LORA", "base_model_name_or_path": "org/base"}"#;
        fs::write(folder.join("adapter_config.json"), adapter).unwrap();
    });
    assert!(message.contains("adapter of `org/base`") && message.contains("merge_and_unload"), "{message}");
}

#[test]
fn a_tokenizer_that_knows_more_than_the_model_is_read_and_its_tokens_refused() {
    let folder = copy("llama");
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 96, "content": "[PAD]", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}));
    fs::write(&path, tokenizer.to_string()).unwrap();
    let model = Model::load(folder.path(), burn::tensor::DType::F32, &burn::tensor::Device::flex()).unwrap();
    let tokens = |text: &str| model.tokenizer.encode(text).unwrap();
    let check = |text: &str| check_tokens(model.lm.as_ref(), &tokens(text), || "a text".into());
    assert!(check("the dog").is_ok());
    let message = check("the [PAD] dog").unwrap_err().to_string();
    assert!(
        message.contains("a text has token 96") && message.contains("resize_token_embeddings"),
        "{message}"
    );
}
