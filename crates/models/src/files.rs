//! Files of a model folder as they turn up in the wild: what is there instead of what was asked for.

use std::fs;
use std::path::Path;

use crate::Error;

/// How a Git LFS pointer begins: what a clone without Git LFS has in a large file's place.
const POINTER: &[u8] = b"version https://git-lfs";

/// The bytes of a file that has at most `limit` of them.
///
/// # Errors
/// Those of [`dpg_files::read`], and a Git LFS pointer.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let bytes = dpg_files::read(path, limit).map_err(Error::io(path))?;
    if bytes.starts_with(POINTER) {
        let reason = "it is a Git LFS pointer, which stands for a file that was not fetched: run `git lfs pull` in the \
                      folder, or download it with `hf download`";
        return Err(Error::malformed(path, reason));
    }
    Ok(bytes)
}

/// A file's text, without the mark that some editors put before UTF-8.
///
/// # Errors
/// Those of [`read`], and bytes that are not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, Error> {
    let text = String::from_utf8(read(path, limit)?).map_err(|error| Error::malformed(path, error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// What a folder without a config.json or without safetensors has instead, and the way out.
pub(crate) fn instead(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    let first = |test: &dyn Fn(&str) -> bool| names.iter().find(|name| test(name)).cloned();
    if let Some(name) = first(&|name| name.to_ascii_lowercase().ends_with(".gguf")) {
        return Some(format!(
            "`{name}` is a GGUF file, which is not read; name the model that it was converted from"
        ));
    }
    let shard = |name: &str| name.starts_with("model-") && name.ends_with(".safetensors");
    if let Some(name) = first(&shard) {
        return Some(format!(
            "`{name}` is one of several, and the index that lists them, `model.safetensors.index.json`, is not there: \
             fetch it too"
        ));
    }
    let other = |name: &str| {
        let ends = [".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"];
        ends.iter().any(|end| name.ends_with(end)) && name != "training_args.bin"
    };
    let name = first(&other).or_else(|| first(&|name| name.ends_with(".safetensors")))?;
    Some(format!(
        "`{name}` is there, but weights are read from `model.safetensors` or its shards alone; convert it with \
         transformers: `AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)`"
    ))
}
