//! The tape of an inner run: what the walk back needs of the way there.
//!
//! A step is determined by its gradient, so the gradients and the first state are the whole run: every
//! other state follows from them by the optimizer alone. What does not fit is run again, segment by
//! segment ([`Storage`]). Steps are deterministic, so nothing of this changes a bit of the result.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use dpg_optim::{Back, Clip, Replay};

use crate::forward::{Gradient, Traced};
use crate::{Error, Sft, State, Storage};

/// A recorded run, read from its last step to its first.
pub(crate) struct Tape<'a> {
    sft: Sft<'a>,
    /// Steps of a segment.
    segment: usize,
    /// Steps from one kept state to the next.
    stride: usize,
    /// State before the first step of every segment but the one that the walk is in.
    starts: Vec<Kept>,
    /// States of that segment, each with the number of the step that it is before.
    states: Vec<(usize, State)>,
    /// Gradients of its steps, as the optimizer took them,
    gradients: Vec<Tensor<1>>,
    /// and how they were cut before.
    clips: Vec<Option<Clip>>,
    /// Whether passes leave traces,
    is_traced: bool,
    /// and those of the last one.
    traces: Arc<[Traced]>,
}

impl<'a> Tape<'a> {
    /// Runs all steps. Also theta_T `[n]`.
    pub(crate) fn record(sft: Sft<'a>, storage: &Storage) -> Result<(Self, Tensor<1>), Error> {
        let steps = sft.batches.len();
        let segment = storage.segment(steps);
        let stride = storage.stride.unwrap_or(segment).max(1);
        let mut tape = Self {
            sft,
            segment,
            stride,
            starts: vec![],
            states: vec![],
            gradients: vec![],
            clips: vec![],
            is_traced: storage.traces && sft.is_traceable(),
            traces: Arc::default(),
        };
        let mut state = State::new(sft.theta.clone());
        for first in (0..steps).step_by(segment) {
            if first + segment < steps {
                tape.starts.push(Kept::new(
                    &state,
                    storage.spill.then_some(storage.scratch.as_path()),
                    first,
                )?);
            }
            state = tape.run_segment(first, state)?;
        }
        Ok((tape, state.theta))
    }

    /// The tape once more, to walk along it again; nothing if it is not in memory as a whole.
    pub(crate) fn again(&self) -> Option<Self> {
        self.starts.is_empty().then(|| Self {
            starts: vec![],
            states: self.states.clone(),
            gradients: self.gradients.clone(),
            clips: self.clips.clone(),
            traces: self.traces.clone(),
            ..*self
        })
    }

    /// Pulls `adjoint` back through step `t`; calls go from the last step to the first. `pass` is handed theta
    /// before the step and u = dPhi/dg, `[n]` both, and the traces of the step if it left some; it goes along u. What it
    /// finds comes with the direct part of the adjoint of the state before the step.
    pub(crate) fn back<R>(
        &mut self,
        t: usize,
        adjoint: State,
        pass: impl FnOnce(Tensor<1>, Tensor<1>, &[Traced]) -> Result<R, Error>,
    ) -> Result<(State, R), Error> {
        if self.gradients.is_empty() {
            let start = self.starts.pop().expect("the walk goes from segment to segment").load()?;
            self.run_segment(t / self.segment * self.segment, start)?;
        }
        let traces = std::mem::take(&mut self.traces);
        let g = self.gradients.pop().expect("the segment of step t was just run");
        let clip = self.clips.pop().flatten();
        self.states.retain(|&(step, _)| step <= t);
        let (first, start) = self.states.last().expect("a segment's first state is kept");
        let (run, optimizer) = (self.sft.run(), self.sft.optimizer());
        let between = &self.gradients[self.gradients.len() - (t - first)..];
        let replay = Replay { run: &run, first: *first, start, gradients: between };
        if adjoint.moments.is_empty() && optimizer.moments() > 0 {
            // the last step, when the tape is longest: the moments' adjoints wait until the pass is over
            let (theta, u) = optimizer.direction(replay, &g, &adjoint);
            let u = if let Some(clip) = clip { clip.back(u, g.clone()) } else { u };
            let found = pass(theta, u, &traces)?;
            drop(traces);
            return Ok((optimizer.adjoint(replay, &g, adjoint), found));
        }
        // the optimizer writes over a gradient that nobody else holds
        let cut = clip.map(|clip| (clip, g.clone()));
        let Back { theta, adjoint, mut u } = optimizer.back(replay, g, adjoint);
        if let Some((clip, cut)) = cut {
            u = clip.back(u, cut);
        }
        Ok((adjoint, pass(theta, u, &traces)?))
    }

    fn run_segment(&mut self, first: usize, mut state: State) -> Result<State, Error> {
        self.gradients.clear();
        self.clips.clear();
        self.states.clear();
        for t in first..(first + self.segment).min(self.sft.batches.len()) {
            let Gradient { flat, clip, traces } = self.sft.gradient_and(t, &state.theta, self.is_traced)?;
            if (t - first).is_multiple_of(self.stride) {
                self.states.push((t, state.clone()));
            }
            state = self.sft.optimizer().step(&self.sft.run(), t, state, &flat);
            self.gradients.push(flat);
            self.clips.push(clip);
            self.traces = traces.into();
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
        let mut files = vec![];
        for (part, vector) in state.vectors().enumerate() {
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
