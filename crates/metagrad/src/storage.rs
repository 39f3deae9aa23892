//! Where an inner run's tape is kept, and what it takes.

use std::path::{Path, PathBuf};

use dpg_models::{activations, chunk_of_logits, device::backend_of, traced, width};

use crate::Sft;

/// Where the tape of an inner run is kept.
///
/// # Memory
/// A run keeps the gradient of every step, and some states: the others follow from those by the optimizer
/// alone, a chunk of every vector at a time. With P the bytes of one flat vector, k the optimizer's moments
/// (AdamW 2, SGD 0), T steps, and a state kept every c steps:
///
/// ```text
/// gradients                          T P
/// states                             ceil(T / c) (1 + k) P, the first without its moments
/// on top                             (2 + k) P, and 3 P for k = 0
/// ```
///
/// where the last are theta before a step, its adjoint and those of the moments, and a pass's gradients; dPhi/dg
/// takes the place of the step's own gradient. So AdamW takes (T + 5) P in all where the first state alone is
/// kept, and a run of one step 5 P. A batch that passes in several microbatches takes one P more, for the sum of
/// their gradients. If gradients do not fit, the run is cut into segments of s steps: T above is then s, the
/// state at the start of every segment is kept in memory or on disk, and the passes of a segment run again when
/// the walk enters it, beside the adjoints: (4 + 2 k) P on top.
///
/// A pass takes, for each token of a microbatch, about 36 numbers for every layer and unit of the hidden
/// width, and 4 for each of at most 2^23 logits; and twice the head, whose gradient has two parts where it
/// is tied. The walk back through the first step keeps nothing of its pass, so a run of one step takes half of
/// that, while no more than 3 P are there. If its batch passes at once, what its walk back reads of the way there stays
/// beside the 5 P instead: about 18 numbers for each token, layer and unit. Several devices each hold 4 P more, and
/// their own passes.
///
/// A state kept every c steps costs (c - 1) / 2 optimizer steps for each step; segments cost every pass of
/// plain fine-tuning a second time. The bits of the result are the same in every case; without traces rewards differ by
/// rounding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Steps per segment; `None` keeps all steps' gradients, as one segment.
    pub segment: Option<usize>,
    /// Steps from one kept state to the next; `None` keeps the first of each segment alone.
    pub stride: Option<usize>,
    /// Whether the states at segment starts go to files instead of memory.
    pub spill: bool,
    /// Whether a run of one step whose batch passes at once keeps what its walk back reads of the way there.
    pub traces: bool,
    /// Folder for files: those states, and what the metric needs.
    pub scratch: PathBuf,
}

/// All in memory, with traces; the system's folder for temporary files.
impl Default for Storage {
    fn default() -> Self {
        Self { segment: None, stride: None, spill: false, traces: true, scratch: std::env::temp_dir() }
    }
}

/// Bytes that a walk takes, by the formula above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Flat vectors in memory at most,
    pub vectors: u64,
    /// and while a pass keeps what it needs for its way back.
    pub meanwhile: u64,
    /// A pass over a microbatch, on one device.
    pub pass: u64,
    /// Flat vectors on disk.
    pub spilled: u64,
}

impl Bytes {
    /// Bytes in memory at most.
    pub fn peak(&self) -> u64 {
        self.vectors.max(self.meanwhile + self.pass)
    }
}

impl Storage {
    /// All in memory, with a folder for files.
    fn beside(folder: &Path) -> Self {
        Self { scratch: folder.into(), ..Self::default() }
    }

    /// What keeps the flat vectors of a walk over `sft` in half of the memory that they lie in; see
    /// [`within`](Self::within). A device that does not say how much it has is asked for the least that all
    /// gradients take.
    pub fn fitting(sft: &Sft, folder: &Path) -> Self {
        let device = sft.theta.device();
        match backend_of(&device).memory(&device) {
            Some(bytes) => Self::within(bytes / 2, sft, folder),
            None => Self::beside(folder),
        }
    }

    /// What keeps the flat vectors of a walk over `sft` in `memory` bytes, if anything does: all gradients with as many
    /// states as fit, if they save more than a twentieth of the time, or else segments, or else segments that spill to
    /// `folder`.
    pub fn within(memory: u64, sft: &Sft, folder: &Path) -> Self {
        let steps = sft.batches.len().max(1);
        let strides = std::iter::successors(Some(cheap_stride(sft)), |stride| Some(stride * 2));
        let strides = strides.take_while(|&stride| stride < steps).map(Some).chain([None]);
        let whole = strides.map(|stride| Self { stride, ..Self::beside(folder) });
        let segments = |spill: bool| {
            (1..=steps).rev().map(move |steps| Self { segment: Some(steps), spill, ..Self::beside(folder) })
        };
        whole
            .chain(segments(false))
            .chain(segments(true))
            // each in constant time: a run may have many steps
            .find(|storage| storage.vectors(sft).0 <= memory)
            .unwrap_or(Self { segment: Some(1), spill: true, ..Self::beside(folder) })
    }

    /// Steps of a segment, of `steps` in all.
    pub(crate) fn segment(&self, steps: usize) -> usize {
        self.segment.unwrap_or(usize::MAX).clamp(1, steps.max(1))
    }

    /// What a walk over `sft` takes.
    pub fn bytes(&self, sft: &Sft) -> Bytes {
        let ((vectors, spilled), layout) = (self.vectors(sft), sft.lm.layout());
        let together = sft.batches.iter().map(Vec::len).max().unwrap_or(0).min(sft.microbatch);
        let tokens = together * sft.examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        // the head's gradient, which a frozen one has not
        let head = if layout.adapters().is_some() { 0 } else { width(sft.lm) * sft.lm.vocab_size() };
        // what goes back to logits and their tangents takes their place
        let with_tangents = activations(sft.lm) * tokens + 2 * chunk_of_logits(sft.lm, tokens);
        let number = sft.theta.dtype().size() as u64;
        let (pass, meanwhile) = if sft.batches.len() > 1 {
            (with_tangents, vectors)
        } else {
            // theta, its gradients, and the sum of theirs
            (with_tangents / 2, 3 * sft.theta.dims()[0] as u64 * number)
        };
        let trace =
            if self.traces && sft.is_traceable() { (traced(sft.lm) * tokens) as u64 * number } else { 0 };
        Bytes { vectors: vectors + trace, meanwhile, pass: (pass + 2 * head) as u64 * number, spilled }
    }

    /// Bytes of flat vectors, in memory and on disk.
    fn vectors(&self, sft: &Sft) -> (u64, u64) {
        let vector = (sft.theta.dims()[0] * sft.theta.dtype().size()) as u64;
        let (steps, state) = (sft.batches.len(), 1 + sft.optimizer().moments() as u64);
        let segment = self.segment(steps);
        let states = state * segment.div_ceil(self.stride.unwrap_or(segment).max(1)) as u64;
        let (states, starts) = match self.segment {
            // the first state has no moments
            None => (states + 1 - state, 0),
            // the walk begins in the last segment, whose start is among the states
            Some(_) => (states, state * (steps.div_ceil(segment) as u64).saturating_sub(1)),
        };
        let together = sft.microbatch * sft.devices.len();
        let several = sft.batches.iter().any(|batch| batch.len() > together);
        let on_top = match self.segment {
            Some(_) => 2 + 2 * state,
            None if steps == 1 => 3,
            None => (1 + state).max(3) + u64::from(several),
        };
        let walk = segment as u64 + states + on_top;
        let (in_memory, spilled) = if self.spill { (walk, starts) } else { (walk + starts, 0) };
        (in_memory * vector, spilled * vector)
    }
}

/// Steps from one kept state to the next at which the optimizer steps in between, which are made again, take at most a
/// twentieth of the time of the passes.
fn cheap_stride(sft: &Sft) -> usize {
    /// Tokens whose passes, some 20 operations a weight, take as long as an elementwise step, which moves 28 bytes a weight:
    /// on a GPU of 3 TB/s and 250 TFLOP/s. CPUs make fewer operations while they move a byte.
    const STEP: usize = 150;
    if !sft.optimizer().is_elementwise() {
        return 1;
    }
    let tokens = sft.batches.iter().flatten().map(|&index| sft.examples[index].tokens.len()).sum::<usize>();
    let of_batch = tokens / sft.batches.len().max(1);
    // (c - 1) / 2 for each step of the run
    1 << (1 + of_batch / (20 * STEP / 2)).ilog2()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor};
    use dpg_models::{Example, from_config};
    use dpg_spec::Optimizer;

    use super::*;

    /// What `found` says of a run of so many steps on batches of four examples of so many tokens; it is also told the bytes
    /// of a flat vector.
    fn of_run<R>(
        optimizer: Optimizer,
        [steps, tokens, microbatch]: [usize; 3],
        found: impl FnOnce(&Sft, u64) -> R,
    ) -> R {
        let config = serde_json::json!({
            "model_type": "gpt2", "vocab_size": 8, "n_positions": 4, "n_embd": 4, "n_layer": 1, "n_head": 1,
        });
        let lm = from_config(config, Path::new("test")).unwrap();
        let theta = Tensor::<1>::zeros([lm.layout().len()], (&Device::flex(), DType::F32));
        let sft = Sft {
            lm: lm.as_ref(),
            theta: &theta,
            examples: &vec![Example::all_scored(vec![1; tokens]); 4],
            weights: &[],
            batches: &vec![vec![0, 1, 2, 3]; steps],
            recipe: &dpg_spec::Sft { optimizer, ..dpg_spec::Sft::default() },
            microbatch,
            devices: &[Device::flex()],
            cancelled: &|| false,
        };
        found(&sft, 4 * lm.layout().len() as u64)
    }

    #[test]
    fn adamw_takes_five_vectors_besides_its_gradients() {
        let vectors = |steps, microbatch| {
            let vectors = |sft: &Sft, vector| Storage::default().vectors(sft).0 / vector;
            of_run(Optimizer::default(), [steps, 2, microbatch], vectors)
        };
        assert_eq!([1, 2, 8, 96].map(|steps| vectors(steps, 4)), [5, 7, 13, 101]);
        assert_eq!([1, 2, 8, 96].map(|steps| vectors(steps, 1)), [5, 8, 14, 102]);
    }

    /// With room for all states: the longer the passes, the fewer are kept; an optimizer that multiplies matrices keeps all.
    #[test]
    fn states_that_are_quickly_found_again_are_not_kept() {
        let stride = |optimizer, steps, tokens| {
            of_run(optimizer, [steps, tokens, 4], |sft, _| {
                Storage::within(u64::MAX, sft, Path::new("")).stride
            })
        };
        let muon = || Optimizer::Muon(dpg_spec::Muon::default());
        let adamw = |steps, tokens| stride(Optimizer::default(), steps, tokens);
        assert_eq!([1, 300, 375, 1124, 1125].map(|tokens| adamw(16, tokens)), [1, 1, 2, 2, 4].map(Some));
        assert_eq!([1, 2, 4, 5].map(|steps| adamw(steps, 2048)), [None, None, None, Some(4)]);
        assert_eq!(stride(muon(), 16, 2048), Some(1));
    }
}
