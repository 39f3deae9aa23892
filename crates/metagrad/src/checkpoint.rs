//! The states of an inner run, kept for the walk back.
//!
//! A run of T steps keeps the state before and the gradient of every step. If they do not fit, it is
//! cut into segments: the state at the start of each is kept, in memory or in a spill folder, and the
//! gradients of the one that the walk is in; on entering a segment its passes run again, and the state
//! before a step follows from the segment's start by the optimizer alone. Steps are deterministic, so
//! segments and spilling change no bit of the result.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use dpg_models::{activations, available_memory, kept_logits};

use crate::{Error, Sft, State};

/// Where the states of an inner run are kept.
///
/// # Memory
/// With P the bytes of one flat vector, k moments (AdamW 2, SGD 0) and segments of s steps:
///
/// ```text
/// all steps                T (2 + k) P
/// in segments              (s + 2 (1 + k)) P, and their starts ceil(T / s) (1 + k) P in memory or on disk
/// on top                   10 P
/// ```
///
/// where the last are theta at both ends; at a step of AdamW the adjoints before and after it, and u; and
/// less in a pass, whose gradients are held in leaves and as one. A pass itself takes, for each token of a
/// microbatch, about 36 numbers for every layer and unit of the hidden width, and 4 for each of at most
/// 2^25 logits. Several devices each hold 4 P more, and their own passes.
///
/// Segments cost every pass of plain fine-tuning a second time, and s / 2 optimizer steps for each step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// Steps per segment; `None` keeps all steps in memory, as one segment.
    pub segment: Option<usize>,
    /// Folder for the states at segment starts; `None` keeps them in memory.
    pub spill: Option<PathBuf>,
}

/// Bytes that a walk takes, by the formula above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Flat vectors in memory.
    pub vectors: u64,
    /// A pass over a microbatch, on one device.
    pub pass: u64,
    /// Flat vectors on disk.
    pub spilled: u64,
}

impl Storage {
    /// What keeps the flat vectors of a walk over `sft` in half of this machine's memory; see
    /// [`within`](Self::within).
    pub fn fitting(sft: &Sft, folder: &Path) -> Self {
        Self::within(available_memory().map_or(u64::MAX, |bytes| bytes / 2), sft, folder)
    }

    /// What keeps the flat vectors of a walk over `sft` in `memory` bytes, if anything does: all steps, or
    /// else segments, or else segments that spill to `folder`.
    pub fn within(memory: u64, sft: &Sft, folder: &Path) -> Self {
        // of each in constant time: a run may have many steps
        let fits = |storage: &Self| storage.vectors(sft).0 <= memory;
        let segments = |spill: Option<PathBuf>| {
            let storage = move |segment| Self { segment: Some(segment), spill: spill.clone() };
            (1..=sft.batches.len()).rev().map(storage)
        };
        std::iter::once(Self::default())
            .chain(segments(None))
            .chain(segments(Some(folder.into())))
            .find(fits)
            .unwrap_or(Self { segment: Some(1), spill: Some(folder.into()) })
    }

    /// What a walk over `sft` takes.
    pub fn bytes(&self, sft: &Sft) -> Bytes {
        let number = sft.theta.dtype().size() as u64;
        let (vectors, spilled) = self.vectors(sft);
        let together = sft.batches.iter().map(Vec::len).max().unwrap_or(0).min(sft.microbatch);
        let tokens = together * sft.examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let pass = activations(sft.lm) * tokens + kept_logits(sft.lm, tokens);
        Bytes { vectors, pass: pass as u64 * number, spilled }
    }

    /// Bytes of flat vectors, in memory and on disk.
    fn vectors(&self, sft: &Sft) -> (u64, u64) {
        const WORKING: u64 = 10;
        let vector = sft.theta.dims()[0] as u64 * sft.theta.dtype().size() as u64;
        let (steps, state) = (sft.batches.len() as u64, 1 + sft.optimizer.moments() as u64);
        let segment = self.segment.map(|segment| (segment as u64).clamp(1, steps.max(1)));
        let starts = segment.map_or(0, |segment| steps.div_ceil(segment) * state);
        // in a segment: its start, and the state that is followed from it
        let walk = segment.map_or(steps * (1 + state), |segment| segment + 2 * state) + WORKING;
        let (in_memory, spilled) = if self.spill.is_some() { (walk, starts) } else { (walk + starts, 0) };
        (in_memory * vector, spilled * vector)
    }
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
    /// Gradients of the last segment run, as far as the walk has not been.
    gradients: Vec<Tensor<1>>,
    /// States before its steps: all, or the first alone.
    states: Vec<State>,
    keeps_states: bool,
    /// theta_T.
    pub(crate) end: Tensor<1>,
}

impl<'a> Trajectory<'a> {
    /// Runs all steps.
    pub(crate) fn record(sft: Sft<'a>, storage: &Storage) -> Result<Self, Error> {
        let steps = sft.batches.len();
        let mut this = Self {
            sft,
            segment: storage.segment.unwrap_or(usize::MAX).clamp(1, steps.max(1)),
            starts: vec![],
            gradients: vec![],
            states: vec![],
            keeps_states: storage.segment.is_none(),
            end: sft.theta.clone(),
        };
        let mut state = State::new(sft.theta.clone(), sft.optimizer);
        for first in (0..steps).step_by(this.segment) {
            this.starts.push(Kept::new(&state, storage.spill.as_deref(), first)?);
            state = this.run_segment(first, state)?;
        }
        this.end = state.theta;
        Ok(this)
    }

    /// Step `t`; calls go from the last step to the first.
    pub(crate) fn take(&mut self, t: usize) -> Result<Step, Error> {
        let segment = t / self.segment;
        let first = segment * self.segment;
        if self.gradients.is_empty() {
            // what belongs to later segments is of no more use
            self.starts.truncate(segment + 1);
            self.states.clear();
            let start = self.starts.pop().expect("the walk goes from segment to segment").load()?;
            self.run_segment(first, start)?;
        }
        let gradient = self.gradients.pop().expect("the segment of step t was just run");
        if self.keeps_states {
            let state = self.states.pop().expect("there is a state for each gradient");
            return Ok(Step { state, gradient });
        }
        let start = self.states[0].clone();
        let before = (first..).zip(&self.gradients);
        let state = before.fold(start, |state, (step, g)| self.sft.optimizer.step(step, &state, g));
        Ok(Step { state, gradient })
    }

    fn run_segment(&mut self, first: usize, mut state: State) -> Result<State, Error> {
        self.gradients.clear();
        self.states.clear();
        for t in first..(first + self.segment).min(self.sft.batches.len()) {
            let gradient = self.sft.gradient(t, &state.theta)?;
            let next = self.sft.optimizer.step(t, &state, &gradient);
            if self.keeps_states || t == first {
                self.states.push(state);
            }
            self.gradients.push(gradient);
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
