//! From a config.json to a model.

use std::path::Path;

use dpg_files::JSON_BYTES;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{CausalLm, Error, gpt2, llama};

const SUPPORTED: &str = "gpt2, llama, qwen2, qwen3";

/// The most of each size that is believed, several times the largest models' own: a layout is made of them
/// before there is a weight.
const SIZES: [(&str, u64); 13] = [
    ("vocab_size", 1 << 24),
    ("n_positions", 1 << 24),
    ("n_embd", 1 << 18),
    ("n_layer", 1024),
    ("n_head", 1 << 12),
    ("n_inner", 1 << 20),
    ("hidden_size", 1 << 18),
    ("intermediate_size", 1 << 20),
    ("num_hidden_layers", 1024),
    ("num_attention_heads", 1 << 12),
    ("num_key_value_heads", 1 << 12),
    ("head_dim", 1 << 14),
    ("max_position_embeddings", 1 << 24),
];

/// The architecture that `folder/config.json` describes.
pub fn architecture(folder: &Path) -> Result<Box<dyn CausalLm>, Error> {
    let path = folder.join("config.json");
    if !path.exists() {
        return Err(Error::MissingFile {
            folder: folder.into(),
            file: "config.json".into(),
            hint: "a model is a Hugging Face folder, as `save_pretrained` writes it".into(),
        });
    }
    let text = dpg_files::read_to_string(&path, JSON_BYTES).map_err(Error::io(&path))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| Error::malformed(&path, error))?;
    from_config(config, &path)
}

/// The architecture that a parsed config.json describes; `path` is named in errors.
pub fn from_config(config: Value, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
    for (key, most) in SIZES {
        if let Some(size) = config.get(key).and_then(Value::as_u64).filter(|size| *size > most) {
            return Err(Error::malformed(path, format!("`{key}` is {size}, expected at most {most}")));
        }
    }
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("absent").to_owned();
    match kind.as_str() {
        "gpt2" => Ok(Box::new(gpt2::Gpt2::new(&parse(config, path)?, path)?)),
        "llama" | "qwen2" | "qwen3" => Ok(Box::new(llama::Llama::new(&parse(config, path)?, path)?)),
        _ => Err(Error::Unsupported {
            path: path.into(),
            field: "model_type".into(),
            found: kind,
            supported: SUPPORTED.into(),
        }),
    }
}

fn parse<T: DeserializeOwned>(config: Value, path: &Path) -> Result<T, Error> {
    serde_json::from_value(config).map_err(|error| Error::malformed(path, error))
}
