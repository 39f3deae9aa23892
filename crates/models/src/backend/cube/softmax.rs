//! Softmax of rows and the logarithm of its denominator, each in one kernel. The denominator takes one reading of a row,
//! the weights another.

use burn::tensor::Tensor;
use burn_backend::TensorMetadata;
use burn_cubecl::{Cube, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    Kernels,
    sums::{GROUP, Groups, LANES, empty, group, operand, shape_of_rows},
};

/// `log(sum(exp(x)))` of the first columns of each row, with size 1; `None` as for [`row_means`](super::row_means).
pub(crate) fn log_sum_exp<const D: usize>(x: &Tensor<D>, columns: usize) -> Option<Tensor<D>> {
    Some(Tensor::from_primitive::<Cube>(Cube::log_sum_exp(operand(x)?, columns)))
}

/// `softmax(scale x)` of each row. With `causal`, the dimension before holds that many queries, and query `q` sees the
/// keys `..= q` alone. `None` as for [`row_means`](super::row_means).
pub(crate) fn softmax<const D: usize>(x: &Tensor<D>, scale: f64, causal: Option<usize>) -> Option<Tensor<D>> {
    Some(Tensor::from_primitive::<Cube>(Cube::softmax(operand(x)?, scale as f32, causal)))
}

pub(super) fn log_sums(x: CubeTensor, columns: usize) -> CubeTensor {
    let output = empty(&x, shape_of_rows(&x.shape()));
    launch(x, output, columns, 1.0, None, false)
}

pub(super) fn weights(x: CubeTensor, scale: f32, causal: Option<usize>) -> CubeTensor {
    let output = empty(&x, x.shape());
    let columns = x.shape()[x.shape().num_dims() - 1];
    launch(x, output, columns, scale, causal, true)
}

fn launch(
    x: CubeTensor,
    output: CubeTensor,
    columns: usize,
    scale: f32,
    causal: Option<usize>,
    all: bool,
) -> CubeTensor {
    let x = into_contiguous(x);
    let Groups { rows, length, count } = Groups::of(&x);
    #[expect(unsafe_code, reason = "the kernel checks its bounds itself")]
    // SAFETY: a row is read and written where it is one of `rows`, and its numbers below `length`
    unsafe {
        softmax_kernel::launch_unchecked(
            &output.client,
            count,
            CubeDim::new_2d(LANES, GROUP),
            x.required_address_type(),
            x.clone().into_buffer_arg(),
            output.clone().into_buffer_arg(),
            rows,
            length,
            columns,
            causal.unwrap_or(1),
            scale,
            causal.is_some(),
            all,
        );
    }
    output
}

/// A row of threads for each row: each thread every 32nd number with the largest so far and the sum of
/// `exp(x - largest)`, then the threads by halves. Writes all weights, or the logarithm of the whole sum.
#[expect(clippy::too_many_arguments, reason = "a kernel has no structs of sizes")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn softmax_kernel(
    input: &[f32],
    output: &mut [f32],
    rows: usize,
    length: usize,
    columns: usize,
    queries: usize,
    scale: f32,
    #[comptime] is_causal: bool,
    #[comptime] all: bool,
) {
    let row = group() * comptime!(GROUP as usize) + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let first = UNIT_POS_Y as usize * comptime!(LANES as usize);
    let place = first + lane;
    let mut maxima = Shared::<[f32]>::new_slice(comptime!((LANES * GROUP) as usize));
    let mut sums = Shared::<[f32]>::new_slice(comptime!((LANES * GROUP) as usize));
    let start = row * length;
    let mut seen = columns;
    if is_causal {
        seen = row % queries + 1;
    }
    // below every score, and finite: its difference to itself is a number
    let mut largest = f32::MIN.runtime();
    let mut sum = 0.0f32;
    if row < rows {
        let mut column = lane;
        while column < seen {
            let x = scale * input[start + column];
            if x > largest {
                sum = sum * (largest - x).exp() + 1.0;
                largest = x;
            } else {
                sum += (x - largest).exp();
            }
            column += comptime!(LANES as usize);
        }
    }
    maxima[place] = largest;
    sums[place] = sum;
    sync_cube();
    #[unroll]
    for halving in 0..comptime!(LANES.ilog2()) {
        let half = comptime!((LANES >> (halving + 1)) as usize);
        if lane < half {
            let (one, other) = (maxima[place], maxima[place + half]);
            let both = max(one, other);
            sums[place] = sums[place] * (one - both).exp() + sums[place + half] * (other - both).exp();
            maxima[place] = both;
        }
        sync_cube();
    }
    let (largest, sum) = (maxima[first], sums[first]);
    if row < rows {
        if comptime!(all) {
            let mut column = lane;
            while column < length {
                let mut weight = 0.0f32;
                if column < seen {
                    weight = (scale * input[start + column] - largest).exp() / sum;
                }
                output[start + column] = weight;
                column += comptime!(LANES as usize);
            }
        } else if lane == 0 {
            output[row] = sum.ln() + largest;
        }
    }
}
