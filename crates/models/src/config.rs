//! From a config.json to a model.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{CausalLm, Error, gpt2, llama};

const SUPPORTED: &str = "gpt2, llama, qwen2, qwen3";

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
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| Error::malformed(&path, error))?;
    from_config(config, &path)
}

/// The architecture that a parsed config.json describes; `path` is named in errors.
pub fn from_config(config: Value, path: &Path) -> Result<Box<dyn CausalLm>, Error> {
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
