//! Normalisation of rows in one kernel: it reads a row for its mean, for its mean square, and for what it writes.

use burn::tensor::Tensor;
use burn_backend::TensorMetadata;
use burn_cubecl::{Cube, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    Kernels,
    sums::{GROUP, Groups, LANES, empty, group, halve, operand, shape_of_rows},
};

/// `s (x - mean(x))` of each row with `s = 1 / sqrt(mean((x - mean(x))^2) + epsilon)`; without `is_centred` the mean
/// counts as 0. `None` as for [`row_means`](super::row_means).
pub(crate) fn normalised<const D: usize>(x: &Tensor<D>, is_centred: bool, epsilon: f64) -> Option<Tensor<D>> {
    Some(Tensor::from_primitive::<Cube>(Cube::normalised(operand(x)?, is_centred, epsilon as f32)))
}

/// The `s` of [`normalised`], with size 1.
pub(crate) fn inverse_deviations<const D: usize>(
    x: &Tensor<D>,
    is_centred: bool,
    epsilon: f64,
) -> Option<Tensor<D>> {
    Some(Tensor::from_primitive::<Cube>(Cube::inverse_deviations(operand(x)?, is_centred, epsilon as f32)))
}

pub(super) fn rows(x: CubeTensor, is_centred: bool, epsilon: f32) -> CubeTensor {
    let output = empty(&x, x.shape());
    launch(x, output, is_centred, epsilon, true)
}

pub(super) fn deviations(x: CubeTensor, is_centred: bool, epsilon: f32) -> CubeTensor {
    let output = empty(&x, shape_of_rows(&x.shape()));
    launch(x, output, is_centred, epsilon, false)
}

fn launch(x: CubeTensor, output: CubeTensor, is_centred: bool, epsilon: f32, all: bool) -> CubeTensor {
    let x = into_contiguous(x);
    let Groups { rows, length, count } = Groups::of(&x);
    #[expect(unsafe_code, reason = "the kernel checks its bounds itself")]
    // SAFETY: a row is read and written where it is one of `rows`, and its numbers below `length`
    unsafe {
        norm_kernel::launch_unchecked(
            &output.client,
            count,
            CubeDim::new_2d(LANES, GROUP),
            x.required_address_type(),
            x.clone().into_buffer_arg(),
            output.clone().into_buffer_arg(),
            rows,
            length,
            1.0 / length as f32,
            epsilon,
            is_centred,
            all,
        );
    }
    output
}

/// A row of threads for each row: each thread every 32nd number, then the threads by halves. Writes all that is
/// normalised, or the factor alone.
#[expect(clippy::too_many_arguments, reason = "a kernel has no structs of sizes")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn norm_kernel(
    input: &[f32],
    output: &mut [f32],
    rows: usize,
    length: usize,
    share: f32,
    epsilon: f32,
    #[comptime] is_centred: bool,
    #[comptime] all: bool,
) {
    let row = group() * comptime!(GROUP as usize) + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let first = UNIT_POS_Y as usize * comptime!(LANES as usize);
    let place = first + lane;
    let start = row * length;
    let mut mean = 0.0f32;
    if comptime!(is_centred) {
        let mut sums = Shared::<[f32]>::new_slice(comptime!((LANES * GROUP) as usize));
        let mut sum = 0.0f32;
        if row < rows {
            let mut column = lane;
            while column < length {
                sum += input[start + column];
                column += comptime!(LANES as usize);
            }
        }
        sums[place] = sum;
        halve(&mut sums, place, lane, 1u32, LANES);
        mean = share * sums[first];
    }
    let mut squares = Shared::<[f32]>::new_slice(comptime!((LANES * GROUP) as usize));
    let mut square = 0.0f32;
    if row < rows {
        let mut column = lane;
        while column < length {
            let centred = input[start + column] - mean;
            square += centred * centred;
            column += comptime!(LANES as usize);
        }
    }
    squares[place] = square;
    halve(&mut squares, place, lane, 1u32, LANES);
    let factor = 1.0 / (share * squares[first] + epsilon).sqrt();
    if row < rows {
        if comptime!(all) {
            let mut column = lane;
            while column < length {
                output[start + column] = factor * (input[start + column] - mean);
                column += comptime!(LANES as usize);
            }
        } else if lane == 0 {
            output[row] = factor;
        }
    }
}
