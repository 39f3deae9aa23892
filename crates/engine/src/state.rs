//! The state of a run on disk: one safetensors file, replaced atomically after every step.
//!
//! It has the vectors that the generator saved, and in its metadata the step, the history, and what else the
//! generator saved.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use dpg_generator::{Generator, Saved};
use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, History};

/// Where a run stands, besides its generator.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunState {
    /// Updates made.
    pub(crate) step: usize,
    /// What happened so far.
    pub(crate) history: History,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    step: usize,
    history: History,
    #[serde(flatten)]
    generator: Map<String, Value>,
}

const METADATA: &str = "dpg";

/// A run's state in its folder.
pub const STATE_FILE: &str = "state.safetensors";
/// The state of an earlier run, whose generator a new one starts from.
pub const WARM_FILE: &str = "warm.safetensors";

impl RunState {
    /// Where the run in `folder` stands; `generator` is brought there. A run that has left no state begins,
    /// from the generator of an earlier run if there is one.
    pub(crate) fn load(folder: &Path, generator: &mut dyn Generator) -> Result<Self, Error> {
        let path = folder.join(STATE_FILE);
        if let Some((state, saved)) = Self::read(&path)? {
            generator.restore(&saved).map_err(Error::damaged(&path))?;
            return Ok(state);
        }
        let path = folder.join(WARM_FILE);
        if let Some((_, saved)) = Self::read(&path)? {
            generator.start_from(&saved).map_err(Error::damaged(&path))?;
        }
        Ok(Self::default())
    }

    fn read(path: &Path) -> Result<Option<(Self, Saved)>, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::state(path)(error)),
        };
        let damaged = |reason: &dyn ToString| Error::damaged(path)(reason.to_string());
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(&error))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&error))?;
        let metadata = metadata.metadata().as_ref().and_then(|map| map.get(METADATA));
        let metadata = metadata.ok_or_else(|| damaged(&"it has no counters"))?;
        let Metadata { step, history, generator: facts } =
            serde_json::from_str(metadata).map_err(|error| damaged(&error))?;
        let vector = |(name, view): (String, TensorView)| {
            let (values, _) = view.data().as_chunks::<4>();
            (name, values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        };
        let vectors = tensors.tensors().into_iter().map(vector).collect();
        Ok(Some((Self { step, history }, Saved { vectors, facts })))
    }

    /// Replaces the state in `folder`.
    pub(crate) fn save(&self, folder: &Path, generator: &dyn Generator) -> Result<(), Error> {
        let path = folder.join(STATE_FILE);
        let Saved { vectors, facts } = generator.save();
        let metadata = Metadata { step: self.step, history: self.history.clone(), generator: facts };
        let metadata = serde_json::to_string(&metadata).expect("counters are plain data");
        let vectors =
            vectors.into_iter().map(|(name, values)| (name, Stored { shape: [values.len()], values }));
        let metadata = HashMap::from([(METADATA.to_owned(), metadata)]);
        replace(&path, |temporary| {
            safetensors::serialize_to_file(vectors, Some(metadata), temporary).map_err(std::io::Error::other)
        })
        .map_err(Error::state(&path))
    }
}

/// A vector as it will be stored, encoded when it is written.
struct Stored {
    shape: [usize; 1],
    values: Vec<f32>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        self.values.len() * Dtype::F32.bitsize() / 8
    }
}

/// Writes a file such that a reader, or a restart after a kill, finds the old bytes or the new.
fn replace(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("tmp");
    write(&temporary)?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use dpg_generator::from_spec;

    use super::*;

    fn generator() -> Box<dyn Generator> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded/letters");
        let settings = serde_json::from_value(serde_json::json!({ "model": folder })).unwrap();
        from_spec(&settings, &[Device::flex()]).unwrap()
    }

    /// What versions without a generator of their own wrote: three vectors and the optimizer's steps beside the
    /// run's.
    fn written_by_an_earlier_version(folder: &Path, name: &str) {
        let length = generator().about().parameters.unwrap();
        let bytes = [1.0_f32, 2.0, 3.0].map(|value| value.to_le_bytes().repeat(length));
        let views = ["theta", "m", "v"]
            .into_iter()
            .zip(&bytes)
            .map(|(name, bytes)| (name, TensorView::new(Dtype::F32, vec![length], bytes).unwrap()));
        let counters = r#"{"step":4,"applied":9,"history":{"steps":[],"validations":[]}}"#;
        let metadata = HashMap::from([("dpg".to_owned(), counters.to_owned())]);
        fs::write(folder.join(name), safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    }

    #[test]
    fn a_state_of_an_earlier_version_is_read_and_comes_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        written_by_an_earlier_version(folder.path(), STATE_FILE);
        let mut first = generator();
        let state = RunState::load(folder.path(), first.as_mut()).unwrap();
        let saved = first.save();
        assert_eq!((state.step, &saved.facts["applied"]), (4, &Value::from(9)));
        assert!(saved.vectors.iter().map(|(_, values)| values[0]).eq([1.0, 2.0, 3.0]));
        state.save(folder.path(), first.as_ref()).unwrap();
        let mut second = generator();
        assert_eq!(RunState::load(folder.path(), second.as_mut()).unwrap().step, 4);
        assert_eq!(second.save(), saved);
    }

    #[test]
    fn a_warm_run_begins_with_the_weights_alone() {
        let folder = tempfile::tempdir().unwrap();
        written_by_an_earlier_version(folder.path(), WARM_FILE);
        let mut warm = generator();
        assert_eq!(RunState::load(folder.path(), warm.as_mut()).unwrap().step, 0);
        let saved = warm.save();
        assert_eq!((saved.vectors.len(), &saved.facts["applied"]), (1, &Value::from(0)));
        assert_eq!(saved.vectors[0].1[0], 1.0);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in [WARM_FILE, STATE_FILE] {
            written_by_an_earlier_version(folder.path(), name);
            let path = folder.path().join(name);
            let bytes = fs::read(&path).unwrap();
            let other = String::from_utf8_lossy(&bytes[..600]).replace("\"theta\"", "\"other\"");
            let damaged = [bytes[..bytes.len() / 2].to_vec(), [other.as_bytes(), &bytes[600..]].concat()];
            for bytes in damaged {
                fs::write(&path, bytes).unwrap();
                let error = RunState::load(folder.path(), generator().as_mut()).unwrap_err();
                assert!(matches!(&error, Error::Damaged { path: of, .. } if *of == path), "{error}");
            }
        }
    }
}
