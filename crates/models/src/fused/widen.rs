//! Weights of a narrower type, widened where they are read.

use burn::tensor::Tensor;
use burn_backend::{DType, TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};
use bytemuck::Pod;
use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    Real,
    gemm::{Threads, View, product, product_by_columns, zeros},
    plain,
};

/// Numbers that a thread widens at a time: wide, they stay in its cache.
const TASK: usize = 1 << 16;
/// Rows of a matrix up to which widening a weight takes about as long as the product with it, and no wide weight is ever
/// held.
pub const FEW_ROWS: usize = 256;

/// `a W` of a weight in the type E or in a narrower one.
///
/// For few rows, as those of tokens that are drawn, some columns are widened at a time, by the thread that multiplies
/// them: no memory but its cache sees them.
pub(super) fn times<E: Real>(a: View<E>, weight: &FlexTensor) -> Vec<E> {
    let [rows, inputs] = a.shape;
    if weight.dtype() == E::dtype() || rows > FEW_ROWS {
        return product(a, View::of(&widened::<E>(weight)));
    }
    let outputs = weight.shape()[1];
    let threads = rayon::current_num_threads();
    // as many for each thread
    let parts = (inputs * outputs).div_ceil(threads * TASK) * threads;
    product_by_columns(a, outputs, parts, |columns| {
        wide::<E>(&weight.narrow(1, columns.start, columns.len()), Threads::One)
    })
}

/// A matrix in the type E, which holds all its numbers, in the same order in memory. One that has the type already is not
/// copied.
pub(super) fn widened<E: Real>(matrix: &FlexTensor) -> FlexTensor {
    if matrix.dtype() == E::dtype() { matrix.clone() } else { wide::<E>(matrix, Threads::All) }
}

/// The same of a tensor on the CPU that is not tracked, in f32 or f64.
pub(crate) fn widened_to(matrix: Tensor<2>, dtype: DType) -> Tensor<2> {
    if matrix.dtype() == dtype {
        return matrix;
    }
    let [matrix] = plain([&matrix]).expect("it is on the CPU");
    Tensor::from_primitive::<Flex>(match dtype {
        DType::F32 => widened::<f32>(&matrix),
        _ => widened::<f64>(&matrix),
    })
}

fn wide<E: Real>(matrix: &FlexTensor, threads: Threads) -> FlexTensor {
    let strides = matrix.layout().strides();
    if strides[0] == 1 && strides[1] != 1 {
        return wide::<E>(&matrix.transpose(0, 1), threads).transpose(0, 1);
    }
    let matrix = if strides[1] == 1 { matrix.clone() } else { matrix.to_contiguous() };
    let wide = match matrix.dtype() {
        DType::BF16 => rows(
            &matrix,
            threads,
            #[inline(always)]
            |x: bf16| f32::from_bits(u32::from(x.to_bits()) << 16),
        ),
        DType::F16 => rows(&matrix, threads, of_half),
        DType::F32 => rows(
            &matrix,
            threads,
            #[inline(always)]
            |x: f32| x,
        ),
        other => unreachable!("weights are not held in {other:?} where others are narrower"),
    };
    let shape = matrix.shape();
    FlexTensor::from_data(TensorData::new::<E, _>(wide, [shape[0], shape[1]]))
}

/// The number in f32; unlike that of `half`, which asks for an instruction each time, in loops of vectors.
#[inline(always)]
fn of_half(x: f16) -> f32 {
    const SCALE: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let bits = u32::from(x.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * SCALE;
    // infinities and what is no number have the largest exponent in both
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

/// The numbers of a matrix whose rows are contiguous.
fn rows<S: Pod + burn_backend::Element, E: Real>(
    matrix: &FlexTensor,
    threads: Threads,
    wide: impl Fn(S) -> f32 + Sync,
) -> Vec<E> {
    let (layout, n) = (matrix.layout(), matrix.shape()[1]);
    let stride = usize::try_from(layout.strides()[0]).expect("nothing is flipped");
    let narrow = &matrix.storage::<S>()[layout.start_offset()..];
    let widen = |first: usize, to: &mut [E]| {
        vectorised!(E, {
            for (row, to) in to.chunks_exact_mut(n).enumerate() {
                for (to, from) in to.iter_mut().zip(&narrow[(first + row) * stride..][..n]) {
                    *to = E::from_single(wide(*from));
                }
            }
        });
    };
    let size = matrix.shape()[0] * n;
    match threads {
        Threads::One => {
            let mut numbers = vec![E::zero(); size];
            widen(0, &mut numbers);
            numbers
        }
        Threads::All => {
            let mut numbers = zeros(size);
            let task = TASK.div_ceil(n);
            numbers.par_chunks_mut(task * n).enumerate().for_each(|(part, to)| widen(part * task, to));
            numbers
        }
    }
}
