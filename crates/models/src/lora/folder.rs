//! Adapters as a folder that peft loads.

use std::{fs, path::Path};

use burn::tensor::{Element, Tensor};
use dpg_files::JSON_BYTES;
use serde_json::{Value, json};

use super::Adapters;
use crate::{
    Error, Layout, StoredType,
    export::copy_companions,
    files,
    weights::{self, write_atomically},
};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// peft's name for the model beneath.
const BASE: &str = "base_model_name_or_path";

/// Writes the adapters `theta` `[layout.len()]` of the model of folder `source` to `folder`, which is made if it does
/// not exist, with the model's tokenizer. The weights come last.
pub(crate) fn export<E: Element>(
    source: &Path,
    folder: &Path,
    layout: &Layout,
    adapters: &Adapters,
    theta: &[E],
) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let targeted = adapters.model().params().iter().filter(|param| adapters.adapts(param));
    // `torch.nn.Linear` stores the transpose of what GPT-2 stores
    let fan_in_fan_out = targeted.clone().all(|param| !param.transposed);
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        BASE: source.to_string_lossy(),
        "revision": null,
        "r": adapters.settings.rank,
        "lora_alpha": adapters.settings.alpha,
        "lora_dropout": 0.0,
        "target_modules": adapters.targets,
        "fan_in_fan_out": fan_in_fan_out,
        "bias": "none",
        "modules_to_save": null,
        "init_lora_weights": true,
        "inference_mode": true,
    });
    write_atomically(&folder.join(CONFIG), format!("{config:#}\n").as_bytes())?;
    copy_companions(source, folder)?;
    weights::save_as(&folder.join(WEIGHTS), layout, theta, StoredType::F32)
}

/// Says in an exported folder where its model is from: a location as a spec writes it.
///
/// # Errors
/// A folder that holds no adapter.
pub fn name_base(folder: &Path, location: &str) -> Result<(), Error> {
    let path = folder.join(CONFIG);
    let text = files::read(&path, JSON_BYTES)?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|error| Error::malformed(&path, error))?;
    let (name, revision) = match location.strip_prefix("hf:") {
        None => (location, None),
        Some(hub) => hub.split_once('@').map_or((hub, None), |(name, revision)| (name, Some(revision))),
    };
    (config[BASE], config["revision"]) = (json!(name), json!(revision));
    write_atomically(&path, format!("{config:#}\n").as_bytes())
}

/// Reads adapters that peft or an export wrote for a model with such a layout, `[layout.len()]`, of the type and on
/// the device of `like`; nothing where the folder holds no adapter.
///
/// # Errors
/// A tensor that the layout has and the file has not, and another shape.
pub fn load_adapter(folder: &Path, layout: &Layout, like: &Tensor<1>) -> Result<Option<Tensor<1>>, Error> {
    let path = folder.join(WEIGHTS);
    if !path.exists() {
        return Ok(None);
    }
    let flat: Vec<f64> = weights::load_from(vec![path], folder, layout)?;
    let data = burn::tensor::TensorData::new(flat, [layout.len()]).convert_dtype(like.dtype());
    Ok(Some(Tensor::from_data(data, (&like.device(), like.dtype()))))
}
