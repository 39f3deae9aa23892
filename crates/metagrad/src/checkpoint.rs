//! The states of an inner run, kept for the walk back.
//!
//! A run of T steps is cut into segments. The state at the start of each is kept, in memory or in a
//! spill folder; the steps inside one are kept in memory while the walk is in it, and run again when
//! it gets there. Steps are deterministic, so segments and spilling change no bit of the result.
//!
//! Memory, with P the bytes of one flat vector and k moments (AdamW 2, SGD 0): the checkpoints take
//! `ceil(T / segment) (1 + k) P` (on disk if spilled), a segment `segment (2 + k) P`.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{Error, Sft, State};

/// Where the states of an inner run are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// Steps per segment; `None` keeps all steps in memory, as one segment.
    pub segment: Option<usize>,
    /// Folder for the states at segment starts; `None` keeps them in memory.
    pub spill: Option<PathBuf>,
}

/// One step as it happened.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// State before the step.
    pub(crate) state: State,
    /// Its gradient g_t. Kept: computing it again would cost a forward and a backward pass.
    pub(crate) gradient: Tensor<1>,
}

/// A recorded inner run, read from its last step to its first.
pub(crate) struct Trajectory<'a> {
    sft: Sft<'a>,
    segment: usize,
    /// State before the first step of every segment.
    starts: Vec<Kept>,
    /// Steps of the last segment run.
    steps: Vec<Step>,
    /// theta_T.
    pub(crate) end: Tensor<1>,
}

impl<'a> Trajectory<'a> {
    /// Runs all steps.
    pub(crate) fn record(sft: Sft<'a>, storage: &Storage) -> Result<Self, Error> {
        let segment = storage.segment.unwrap_or(usize::MAX).clamp(1, sft.batches.len().max(1));
        let mut state = State::new(sft.theta.clone(), sft.optimizer);
        let mut this = Self { sft, segment, starts: vec![], steps: vec![], end: state.theta.clone() };
        for first in (0..sft.batches.len()).step_by(segment) {
            this.starts.push(Kept::new(&state, storage.spill.as_deref(), first)?);
            state = this.run_segment(first, state)?;
        }
        this.end = state.theta;
        Ok(this)
    }

    /// Step `t`; calls go from the last step to the first.
    pub(crate) fn take(&mut self, t: usize) -> Result<Step, Error> {
        if self.steps.is_empty() {
            let segment = t / self.segment;
            let start = self.starts[segment].load()?;
            self.run_segment(segment * self.segment, start)?;
        }
        Ok(self.steps.pop().expect("the segment of step t was just run"))
    }

    fn run_segment(&mut self, first: usize, mut state: State) -> Result<State, Error> {
        self.steps.clear();
        for t in first..(first + self.segment).min(self.sft.batches.len()) {
            let gradient = self.sft.gradient(t, &state.theta)?;
            let next = self.sft.optimizer.step(t, &state, &gradient);
            self.steps.push(Step { state, gradient });
            state = next;
        }
        Ok(state)
    }
}

/// A state in memory or in files that are deleted with it.
enum Kept {
    Memory(State),
    Disk { files: Vec<PathBuf>, dtype: DType, device: Device },
}

impl Kept {
    fn new(state: &State, spill: Option<&Path>, step: usize) -> Result<Self, Error> {
        let Some(folder) = spill else { return Ok(Self::Memory(state.clone())) };
        let vectors = std::iter::once(&state.theta).chain(&state.moments);
        let mut files = vec![];
        for (part, vector) in vectors.enumerate() {
            let path = folder.join(format!("step-{step:06}-{part}.bin"));
            std::fs::write(&path, vector.to_data().as_bytes()).map_err(spill_error(&path))?;
            files.push(path);
        }
        Ok(Self::Disk { files, dtype: state.theta.dtype(), device: state.theta.device() })
    }

    fn load(&self) -> Result<State, Error> {
        match self {
            Self::Memory(state) => Ok(state.clone()),
            Self::Disk { files, dtype, device } => {
                let read = |path: &PathBuf| -> Result<Tensor<1>, Error> {
                    let bytes = std::fs::read(path).map_err(spill_error(path))?;
                    let elements = bytes.len() / dtype.size();
                    let data = TensorData::from_bytes_vec(bytes, [elements], *dtype);
                    Ok(Tensor::from_data(data, (device, *dtype)))
                };
                let mut vectors = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
                let theta = vectors.remove(0);
                Ok(State { theta, moments: vectors })
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Self::Disk { files, .. } = self {
            for file in files {
                // a file left behind is only disk space, and the folder's owner removes it
                let _ = std::fs::remove_file(file);
            }
        }
    }
}

fn spill_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Spill { path, source }
}
