//! The state of a run on disk: one safetensors file, replaced atomically after every step.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad as metagrad;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{Error, History};

/// Where a run stands.
#[derive(Clone, Debug)]
pub(crate) struct RunState {
    /// Updates made.
    pub(crate) step: usize,
    /// Optimizer steps made; an update has one for every minibatch.
    pub(crate) applied: usize,
    /// The generator's weights and AdamW moments.
    pub(crate) generator: metagrad::State,
    /// What happened so far.
    pub(crate) history: History,
}

#[derive(Serialize, Deserialize)]
struct Counters {
    step: usize,
    applied: usize,
    history: History,
}

const COUNTERS: &str = "dpg";
const NAMES: [&str; 3] = ["theta", "m", "v"];

/// A run's state in its folder.
pub const STATE_FILE: &str = "state.safetensors";
/// The state of an earlier run, whose generator a new one starts from.
pub const WARM_FILE: &str = "warm.safetensors";

fn file(folder: &Path) -> PathBuf {
    folder.join(STATE_FILE)
}

impl RunState {
    /// The state in `folder`, if a run has left one; `len` is the generator's parameter count.
    pub(crate) fn load(folder: &Path, len: usize, device: &Device) -> Result<Option<Self>, Error> {
        Self::read(file(folder), len, device)
    }

    /// The weights that a run in `folder` is to start from, if there are any.
    pub(crate) fn warm(folder: &Path, len: usize, device: &Device) -> Result<Option<Tensor<1>>, Error> {
        Ok(Self::read(folder.join(WARM_FILE), len, device)?.map(|state| state.generator.theta))
    }

    fn read(path: PathBuf, len: usize, device: &Device) -> Result<Option<Self>, Error> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::state(&path)(error)),
        };
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        let counters = metadata.metadata().as_ref().and_then(|map| map.get(COUNTERS));
        let counters = counters.ok_or_else(|| damaged("it has no counters".into()))?;
        let counters: Counters =
            serde_json::from_str(counters).map_err(|error| damaged(error.to_string()))?;
        let vector = |name: &str| -> Result<Tensor<1>, Error> {
            let view = tensors.tensor(name).map_err(|error| damaged(error.to_string()))?;
            let (values, _) = view.data().as_chunks::<4>();
            if values.len() != len {
                return Err(damaged(format!("`{name}` has {} numbers, expected {len}", values.len())));
            }
            let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Ok(Tensor::from_data(values.as_slice(), (device, DType::F32)))
        };
        let [theta, m, v] = NAMES;
        let generator = metagrad::State { theta: vector(theta)?, moments: vec![vector(m)?, vector(v)?] };
        Ok(Some(Self {
            step: counters.step,
            applied: counters.applied,
            generator,
            history: counters.history,
        }))
    }

    /// Replaces the state in `folder`.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Error> {
        let path = file(folder);
        let counters = Counters { step: self.step, applied: self.applied, history: self.history.clone() };
        let counters = serde_json::to_string(&counters).expect("counters are plain data");
        let vectors = std::iter::once(&self.generator.theta).chain(&self.generator.moments);
        let bytes: Vec<Vec<u8>> = vectors
            .map(|vector| vector.to_data_as::<f32>().iter::<f32>().flat_map(f32::to_le_bytes).collect())
            .collect();
        let views = NAMES.iter().zip(&bytes).map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
            (*name, view.expect("a vector's bytes are its shape's"))
        });
        let metadata = HashMap::from([(COUNTERS.to_owned(), counters)]);
        let bytes = safetensors::serialize(views, Some(metadata)).expect("the state's names are distinct");
        replace(&path, &bytes).map_err(Error::state(&path))
    }
}

/// Writes a file such that a reader, or a restart after a kill, finds the old bytes or the new.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}
