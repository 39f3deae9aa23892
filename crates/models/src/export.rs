//! A trained model as a folder that transformers loads.

use std::{fs, path::Path};

use burn::tensor::Element;
use dpg_files::TOKENIZER_BYTES;
use serde_json::Value;

use crate::{
    Error, Layout, StoredType,
    tokenizer::json,
    weights::{self, write_atomically},
};

/// What belongs to a model besides its config and weights; all of it optional.
const COMPANIONS: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// Writes the model of folder `source` with the weights `flat` `[layout.len()]` to `folder`, which is
/// made if it does not exist. The weights come last.
pub fn export<E: Element>(
    source: &Path,
    folder: &Path,
    layout: &Layout,
    flat: &[E],
    precision: StoredType,
) -> Result<(), Error> {
    const CONFIG: &str = "config.json";
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut config = json(source, CONFIG)?;
    let Some(keys) = config.as_object_mut() else {
        return Err(Error::malformed(&source.join(CONFIG), "it must be a JSON object"));
    };
    // transformers 4 calls it `torch_dtype`
    let key = if keys.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    keys.insert(key.into(), Value::from(precision.name()));
    write_atomically(&folder.join(CONFIG), format!("{config:#}\n").as_bytes())?;
    for file in COMPANIONS {
        let from = source.join(file);
        if from.exists() {
            let bytes = dpg_files::read(&from, TOKENIZER_BYTES).map_err(Error::io(&from))?;
            write_atomically(&folder.join(file), &bytes)?;
        }
    }
    weights::save(folder, layout, flat, precision)
}
