//! Weights on disk: safetensors files as transformers reads and writes them, to and from one flat
//! vector.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use dpg_files::JSON_BYTES;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};
use serde::Deserialize;

use crate::{Error, Layout, Param, StoredType, available_memory, files};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const HEAD: &str = "lm_head.weight";
/// Most bytes of a weight file's header. The largest models' have about 1 MB.
const HEADER_BYTES: u64 = 16 << 20;

/// The weights that [`load`] reads, on a device in f32 or another type that is asked for: `[layout.len()]`.
///
/// # Errors
/// Those of [`load`].
pub fn load_tensor(
    folder: &Path,
    layout: &Layout,
    dtype: DType,
    device: &Device,
) -> Result<Tensor<1>, Error> {
    let n = [layout.len()];
    let theta = match dtype {
        DType::F64 => TensorData::new(load::<f64>(folder, layout)?, n),
        DType::BF16 => TensorData::new(load::<bf16>(folder, layout)?, n),
        DType::F16 => TensorData::new(load::<f16>(folder, layout)?, n),
        _ => TensorData::new(load::<f32>(folder, layout)?, n),
    };
    Ok(Tensor::from_data(theta, (device, dtype)))
}

/// The type that all weights of a folder are stored in, if it is one and no wider than `dtype`; else `dtype`.
pub(crate) fn stored_dtype(folder: &Path, layout: &Layout, dtype: DType) -> Result<DType, Error> {
    let wanted: BTreeSet<&str> = layout.params().iter().map(|param| unprefixed(&param.name)).collect();
    let mut found = BTreeSet::new();
    for path in weight_files(folder)? {
        let tensors = header(&path)?.into_iter().filter(|(name, _)| wanted.contains(unprefixed(name)));
        found.extend(tensors.filter_map(|(_, tensor)| Some(tensor.get("dtype")?.as_str()?.to_owned())));
    }
    let mut found = found.into_iter();
    let stored = match (found.next().as_deref(), found.next()) {
        (Some("BF16"), None) => DType::BF16,
        (Some("F16"), None) => DType::F16,
        (Some("F32"), None) => DType::F32,
        _ => dtype,
    };
    Ok(if stored.size() < dtype.size() { stored } else { dtype })
}

/// Bytes of a folder's weights where nothing trains them, for passes in `dtype`.
///
/// # Errors
/// Weight files that are not there or cannot be read.
pub fn stored_bytes(folder: &Path, layout: &Layout, dtype: DType) -> Result<u64, Error> {
    Ok((layout.len() * stored_dtype(folder, layout, dtype)?.size()) as u64)
}

/// What a weight file says of its tensors, by name.
fn header(path: &Path) -> Result<HashMap<String, serde_json::Value>, Error> {
    let read = || {
        let mut file = dpg_files::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = vec![];
        // what is wrong with a longer one, or a cut one, is told where the weights are read
        file.take(u64::from_le_bytes(length).min(HEADER_BYTES)).read_to_end(&mut header)?;
        Ok(header)
    };
    let header = read().map_err(Error::io(path))?;
    Ok(serde_json::from_slice(&header).unwrap_or_default())
}

/// Reads the weights of a model folder into a flat vector `[layout.len()]`, from
/// `model.safetensors` or the shards that `model.safetensors.index.json` lists.
///
/// Tensors may lack the prefix `model.` or `transformer.`, as those of a base model do. A tied head may be
/// stored beside the embedding or in its place; of two that differ the embedding counts, as in transformers
/// 4, where version 5 would untie them. Tensors that the layout does not know are left out; all but the
/// buffers that older files contain are reported as a warning.
///
/// # Errors
/// An absent weight file or tensor, a wrong shape, a type other than f32, f64, bf16 and f16, a
/// weight that is not finite, and a damaged file, each by its name.
pub fn load<E: Element>(folder: &Path, layout: &Layout) -> Result<Vec<E>, Error> {
    load_from(weight_files(folder)?, folder, layout)
}

/// The same from some files of the folder.
pub(crate) fn load_from<E: Element>(
    files: Vec<PathBuf>,
    folder: &Path,
    layout: &Layout,
) -> Result<Vec<E>, Error> {
    let mut wanted: HashMap<&str, &Param> =
        layout.params().iter().map(|param| (unprefixed(&param.name), param)).collect();
    let tied = !wanted.contains_key(HEAD);
    check_size(&files, layout)?;
    let mut flat = vec![E::default(); layout.len()];
    let mut found = BTreeSet::new();
    let mut copy: Option<Vec<E>> = None;
    for path in files {
        let bytes = read_weights(&path)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| {
            let found = bytes.len();
            Error::malformed(&path, format!("{error} ({found} bytes); it is damaged or cut: fetch it again"))
        })?;
        for (name, tensor) in tensors.tensors() {
            if let Some(param) = wanted.remove(unprefixed(&name)) {
                read(param, &tensor, &path, &mut flat[param.range()])?;
            } else if tied && name == HEAD {
                let table = embedding(layout);
                let mut head = vec![E::default(); table.len()];
                read(table, &tensor, &path, &mut head)?;
                copy = Some(head);
            } else if !is_buffer(&name) {
                tracing::warn!(file = %path.display(), tensor = name, "the model has no such parameter");
            }
            found.insert(name);
        }
    }
    if let Some(head) = copy {
        let table = embedding(layout);
        if wanted.remove(unprefixed(&table.name)).is_some() {
            flat[table.range()].copy_from_slice(&head);
        } else if flat[table.range()].iter().zip(&head).any(|(a, b)| a.elem::<f64>() != b.elem::<f64>()) {
            tracing::warn!(
                folder = %folder.display(),
                "`{HEAD}` differs from `{}`, to which config.json ties it: it is left out, as transformers 4 does, \
                 where version 5 would use it; set `tie_word_embeddings` to false if the model was trained so",
                table.name,
            );
        }
    }
    match layout.params().iter().find(|param| wanted.contains_key(unprefixed(&param.name))) {
        Some(missing) => Err(Error::MissingTensor {
            folder: folder.into(),
            name: missing.name.clone(),
            cause: cause(&missing.name, &found),
        }),
        None => Ok(flat),
    }
}

/// Reads a safetensors file of some of a model's parameters, as a gradient is, into a flat vector `[layout.len()]`
/// that is 0 elsewhere.
///
/// # Errors
/// A file that cannot be read or has no tensor; a name that the layout does not know, a wrong shape, a type other
/// than f32, f64, bf16 and f16, and a number that is not finite, each by its name.
pub fn load_some<E: Element>(path: &Path, layout: &Layout) -> Result<Vec<E>, Error> {
    let bytes = read_weights(path)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::malformed(path, format!("{error}; it is not a whole safetensors file")))?;
    if tensors.is_empty() {
        return Err(Error::malformed(path, "it has no tensor"));
    }
    let mut flat = vec![E::default(); layout.len()];
    for (name, tensor) in tensors.tensors() {
        let param = layout.find(&name)?;
        read(param, &tensor, path, &mut flat[param.range()])?;
    }
    Ok(flat)
}

/// The embedding table, which comes first.
fn embedding(layout: &Layout) -> &Param {
    layout.params().first().expect("a model has an embedding")
}

/// Why a tensor is absent, by the names of those that are there, and the way out.
fn cause(missing: &str, found: &BTreeSet<String>) -> String {
    /// Prefixes and parts of names, with what leaves them there.
    const WRAPPERS: [(&str, &str); 4] = [
        ("_orig_mod.", "`torch.compile`, whose model is `model._orig_mod`"),
        ("module.", "a data-parallel wrapper, whose model is `model.module`"),
        ("_fsdp_wrapped_module.", "FSDP; gather the full state dict"),
        ("base_model.model.", "peft, whose model is `model.merge_and_unload()`"),
    ];
    const QUANTISED: [&str; 8] = [
        ".qweight",
        ".qzeros",
        ".scales",
        ".weight_packed",
        ".weight_scale",
        ".weight_scale_inv",
        ".absmax",
        ".SCB",
    ];
    if let Some((prefix, wrapper)) =
        WRAPPERS.iter().find(|(prefix, _)| found.iter().any(|name| name.starts_with(prefix)))
    {
        return format!(
            "its tensors' names begin with `{prefix}`, as they do if the model was saved inside {wrapper}; save that \
             with `save_pretrained`, or take the prefix off the names"
        );
    }
    if found.iter().any(|name| name.contains(".lora_")) {
        return "it holds a LoRA adapter; merge it into its base with peft's `merge_and_unload` and save that".into();
    }
    if let Some(name) = found.iter().find(|name| QUANTISED.iter().any(|part| name.contains(part))) {
        return format!(
            "`{name}` is a part of a quantised weight; name the original model, in bf16, f16 or f32"
        );
    }
    if missing == HEAD {
        return "the folder has no head; set `tie_word_embeddings` to true in config.json if the model's head is its \
                embedding, or else save it with its head, as an `AutoModelForCausalLM`"
            .into();
    }
    if found.iter().any(|name| name.contains(".experts.")) {
        return "its tensors are those of a mixture of experts, which is not supported".into();
    }
    let some: Vec<_> = found.iter().take(3).map(|name| format!("`{name}`")).collect();
    format!(
        "it has {} tensors, as {}; fetch the folder again, or mend its config.json",
        found.len(),
        some.join(", ")
    )
}

/// Refuses weights that cannot be all there, before room is made for them: config.json may say any size.
fn check_size(files: &[PathBuf], layout: &Layout) -> Result<(), Error> {
    let length = |path: &Path| dpg_files::open(path).and_then(|file| Ok(file.metadata()?.len()));
    let lengths = files.iter().map(|path| length(path).map_err(Error::io(path)));
    let bytes: u64 = lengths.sum::<Result<_, Error>>()?;
    // quantised weights, which are refused by name later, take two bits and more
    match files.first() {
        Some(first) if bytes < layout.len() as u64 / 4 => {
            // what lies there instead may say so
            read_weights(first)?;
            let parameters = layout.len();
            let reason = format!(
                "config.json implies {parameters} parameters, and {bytes} bytes are too few for them; it is damaged or cut, or \
                 another model's: fetch it again"
            );
            Err(Error::malformed(first, reason))
        }
        _ => Ok(()),
    }
}

/// The bytes of a weight file, which memory can hold, and whose header is of a sane size.
fn read_weights(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = files::read(path, available_memory().unwrap_or(u64::MAX))?;
    let header = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    // a longer one than the file is for whoever reads it: the file is cut
    if header > HEADER_BYTES && header <= bytes.len() as u64 {
        let reason = format!("its header has {header} bytes, more than the limit of {HEADER_BYTES}");
        return Err(Error::malformed(path, reason));
    }
    Ok(bytes)
}

/// Writes a flat vector `[layout.len()]` as `folder/model.safetensors`, rounded to `precision`.
///
/// The file appears whole or not at all. A tied head is not stored, as transformers does it.
pub fn save<E: Element>(
    folder: &Path,
    layout: &Layout,
    flat: &[E],
    precision: StoredType,
) -> Result<(), Error> {
    save_as(&folder.join(SINGLE), layout, flat, precision)
}

/// The same as a file of another name.
pub(crate) fn save_as<E: Element>(
    path: &Path,
    layout: &Layout,
    flat: &[E],
    precision: StoredType,
) -> Result<(), Error> {
    assert_eq!(flat.len(), layout.len(), "a flat vector has the layout's length");
    let tensors = layout.params().iter().map(|param| {
        (
            param.name.as_str(),
            Stored { param, shape: param.stored_shape(), flat: &flat[param.range()], precision },
        )
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes =
        safetensors::serialize(tensors, Some(metadata)).map_err(|error| Error::malformed(path, error))?;
    write_atomically(path, &bytes)
}

/// Writes a file through a temporary one beside it, so that a reader sees the old or the new one.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(Error::io(path))
}

/// The weight files of a model folder: `model.safetensors`, or the shards of its index.
///
/// # Errors
/// No weights, an index that cannot be read, and a shard that is not there.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let single = folder.join(SINGLE);
    if single.exists() {
        return Ok(vec![single]);
    }
    let missing = |file: &str, hint: &str| Error::MissingFile {
        folder: folder.into(),
        file: file.into(),
        hint: hint.into(),
    };
    let index = folder.join(INDEX);
    if !index.exists() {
        let hint = files::instead(folder).unwrap_or_else(|| {
            "weights are read from safetensors only; convert others with transformers' `save_pretrained`"
                .into()
        });
        return Err(missing(SINGLE, &hint));
    }
    let shards: Shards = serde_json::from_slice(&files::read(&index, JSON_BYTES)?)
        .map_err(|error| Error::malformed(&index, error))?;
    let names: BTreeSet<String> = shards.weight_map.into_values().collect();
    names
        .into_iter()
        .map(|name| {
            let path = folder.join(&name);
            if Path::new(&name).file_name().is_none_or(|file| file != name.as_str()) {
                return Err(Error::malformed(
                    &index,
                    format!("`{name}` is not the name of a file beside it"),
                ));
            }
            if path.exists() {
                Ok(path)
            } else {
                Err(missing(&name, &format!("`{INDEX}` lists it; fetch it again")))
            }
        })
        .collect()
}

#[derive(Deserialize)]
struct Shards {
    /// Tensor name to file name.
    weight_map: BTreeMap<String, String>,
}

/// A parameter's name in the base model.
fn unprefixed(name: &str) -> &str {
    ["transformer.", "model."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// Constants that older transformers saved among the weights.
fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
}

/// Copies one tensor into its place in the flat vector.
fn read<E: Element>(param: &Param, tensor: &TensorView, path: &Path, place: &mut [E]) -> Result<(), Error> {
    let name = &param.name;
    if tensor.shape() != param.stored_shape() {
        return Err(Error::Shape {
            path: path.into(),
            name: name.clone(),
            expected: param.stored_shape(),
            found: tensor.shape().into(),
        });
    }
    let precision = StoredType::of(tensor.dtype()).ok_or_else(|| {
        let found = tensor.dtype();
        Error::malformed(
            path,
            format!(
                "tensor `{name}` is stored as {found}, as in quantised models; f32, f64, bf16 and f16 are read: name the \
                 original model"
            ),
        )
    })?;
    let transposed = param.transposed.then(|| <[usize; 2]>::try_from(&param.shape[..]).expect("a matrix"));
    precision
        .read(tensor.data(), transposed, place)
        .map_err(|bad| Error::malformed(path, format!("tensor `{name}` contains {bad}")))
}

/// Where element `at` of the file's row-major order lies in memory.
fn memory_index(param: &Param, at: usize) -> usize {
    match *param.shape {
        [inputs, outputs] if param.transposed => at % inputs * outputs + at / inputs,
        _ => at,
    }
}

/// A parameter as it will be stored, encoded when the file is written.
struct Stored<'a, E> {
    param: &'a Param,
    shape: Vec<usize>,
    flat: &'a [E],
    precision: StoredType,
}

impl<E: Element> View for Stored<'_, E> {
    fn dtype(&self) -> Dtype {
        self.precision.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = (0..self.flat.len()).map(|at| self.flat[memory_index(self.param, at)].elem());
        self.precision.encode(numbers).into()
    }

    fn data_len(&self) -> usize {
        self.flat.len() * self.precision.bytes()
    }
}
