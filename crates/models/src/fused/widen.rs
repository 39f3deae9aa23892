//! Weights of a narrower type, widened where they are read.

use burn_backend::{DType, TensorData, TensorMetadata};
use burn_flex::FlexTensor;
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Real, gemm::zeros};

/// Numbers that a thread widens at a time.
const TASK: usize = 1 << 16;

/// A matrix in the type E, which holds all its numbers, in the same order in memory. One that has the type already is not
/// copied.
pub(super) fn widened<E: Real>(matrix: &FlexTensor) -> FlexTensor {
    if matrix.dtype() == E::dtype() {
        return matrix.clone();
    }
    let strides = matrix.layout().strides();
    if strides[0] == 1 && strides[1] != 1 {
        return widened::<E>(&matrix.transpose(0, 1)).transpose(0, 1);
    }
    let matrix = matrix.to_contiguous();
    let wide = match matrix.dtype() {
        DType::BF16 => each(slice(&matrix), |x: bf16| f32::from_bits(u32::from(x.to_bits()) << 16)),
        DType::F16 => each(slice(&matrix), f16::to_f32),
        DType::F32 => each(slice(&matrix), |x: f32| x),
        other => unreachable!("weights are not held in {other:?} where others are narrower"),
    };
    let shape = matrix.shape();
    FlexTensor::from_data(TensorData::new::<E, _>(wide, [shape[0], shape[1]]))
}

fn slice<S: burn_backend::Element + bytemuck::Pod>(matrix: &FlexTensor) -> &[S] {
    matrix.as_slice().expect("it was made contiguous")
}

fn each<S: Copy + Sync, E: Real>(narrow: &[S], wide: impl Fn(S) -> f32 + Sync) -> Vec<E> {
    let mut numbers: Vec<E> = zeros(narrow.len());
    numbers.par_chunks_mut(TASK).zip(narrow.par_chunks(TASK)).for_each(|(to, from)| {
        E::vectorised(|| to.iter_mut().zip(from).for_each(|(to, from)| *to = E::from_single(wide(*from))));
    });
    numbers
}
