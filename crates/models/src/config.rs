//! From a config.json to a model.

use std::path::Path;

use dpg_files::JSON_BYTES;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{CausalLm, Error, files, gpt2, llama};

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
    let (config, path) = load(folder)?;
    from_config(config, &path)
}

/// The architecture that a parsed config.json describes; `path` is named in errors.
pub fn from_config(config: Value, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
    for (key, most) in SIZES {
        if let Some(size) = config.get(key).and_then(Value::as_u64).filter(|size| *size > most) {
            return Err(Error::malformed(path, format!("`{key}` is {size}, expected at most {most}")));
        }
    }
    let keys = Keys::new(config, path)?;
    match keys.kind() {
        "gpt2" => Ok(Box::new(gpt2::Gpt2::new(&gpt2::Config::read(&keys)?, path)?)),
        "llama" | "qwen2" | "qwen3" => Ok(Box::new(llama::Llama::new(&llama::Config::read(&keys)?, path)?)),
        "" => Err(Error::malformed(path, format!("it has no `model_type`; supported: {SUPPORTED}"))),
        other => Err(Error::Unsupported {
            path: path.into(),
            field: "model_type".into(),
            found: other.into(),
            supported: SUPPORTED.into(),
        }),
    }
}

/// Names and values of the dropout that transformers trains this model with, unless it is told otherwise.
/// Here there is none.
pub fn dropout(folder: &Path) -> Result<Vec<(String, f64)>, Error> {
    let (config, path) = load(folder)?;
    let keys = Keys::new(config, &path)?;
    let (names, default): (&[&str], f64) = match keys.kind() {
        "gpt2" => (&["attn_pdrop", "embd_pdrop", "resid_pdrop"], 0.1),
        _ => (&["attention_dropout"], 0.0),
    };
    let share = |&name: &&str| {
        // null, which transformers takes for no number
        let share: Option<f64> = keys.get(name, default)?;
        Ok(share.filter(|&share| share > 0.0).map(|share| (name.to_owned(), share)))
    };
    names.iter().filter_map(|name| share(name).transpose()).collect()
}

/// The folder's config.json and its path.
fn load(folder: &Path) -> Result<(Value, std::path::PathBuf), Error> {
    // transformers, too, takes a folder with this file for an adapter, whatever else is in it
    let adapter = folder.join("adapter_config.json");
    if adapter.exists() {
        let text = files::read(&adapter, JSON_BYTES)?;
        let config: Value = serde_json::from_slice(&text).unwrap_or_default();
        let base = config["base_model_name_or_path"].as_str().unwrap_or("a model that it does not name");
        let reason = format!(
            "the folder holds an adapter of `{base}` and no model of its own; merge it first: peft's \
             `PeftModel.from_pretrained(base, folder).merge_and_unload()`, then `save_pretrained`"
        );
        return Err(Error::malformed(&adapter, reason));
    }
    let path = folder.join("config.json");
    if !path.exists() {
        return Err(Error::MissingFile {
            folder: folder.into(),
            file: "config.json".into(),
            hint: files::instead(folder)
                .unwrap_or_else(|| "a model is a Hugging Face folder, as `save_pretrained` writes it".into()),
        });
    }
    let config = serde_json::from_slice(&files::read(&path, JSON_BYTES)?)
        .map_err(|error| Error::malformed(&path, error))?;
    Ok((config, path))
}

/// The keys of a config.json, read as transformers' config classes read them: one that is absent has the
/// class's default, and one that is null is Python's `None`.
pub(crate) struct Keys<'a> {
    map: Map<String, Value>,
    path: &'a Path,
}

impl<'a> Keys<'a> {
    fn new(config: Value, path: &'a Path) -> Result<Self, Error> {
        let Value::Object(map) = config else { return Err(Error::malformed(path, "expected a JSON object")) };
        let keys = Self { map, path };
        match keys.quantisation() {
            None => Ok(keys),
            Some(method) => Err(Error::malformed(
                path,
                format!(
                    "its weights are quantised (`quantization_config`: {method}); rewards are derivatives in the \
                     weights themselves: name the original model, or save one in bf16 with transformers' \
                     `model.dequantize()`"
                ),
            )),
        }
    }

    /// How the weights are quantised, if they are.
    fn quantisation(&self) -> Option<&str> {
        let config = self.map.get("quantization_config")?.as_object()?;
        let off = |key: &str| config.get(key) == Some(&Value::Bool(false));
        if config.is_empty() || off("load_in_4bit") && off("load_in_8bit") {
            return None;
        }
        Some(config.get("quant_method").and_then(Value::as_str).unwrap_or("of an unnamed method"))
    }

    /// `model_type`; empty if there is none.
    pub(crate) fn kind(&self) -> &str {
        self.map.get("model_type").and_then(Value::as_str).unwrap_or("")
    }

    /// The value of a key. Read it as an `Option` where null has a meaning.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str, default: impl Into<Value>) -> Result<T, Error> {
        let value = self.map.get(key).cloned().unwrap_or_else(|| default.into());
        T::deserialize(&value)
            .map_err(|error| Error::malformed(self.path, format!("`{key}` = {value}: {error}")))
    }

    /// Whether Python takes the value for true: null, false and 0 are not.
    pub(crate) fn truthy(&self, key: &str, default: bool) -> bool {
        match self.map.get(key) {
            None => default,
            Some(Value::Null) => false,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(value) => value.as_bool().unwrap_or(true),
        }
    }
}
