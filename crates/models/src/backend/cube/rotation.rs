//! Rotary positions in one kernel, there and back.

use burn::tensor::Tensor;
use burn_backend::TensorMetadata;
use burn_cubecl::{Cube, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    Kernels,
    sums::{across, empty, group, operand},
};

/// Threads of a group.
const THREADS: u32 = 256;

/// The pairs `(x_i, x_{i + dim/2})` of `[batch, seq, heads, dim]` turned by angles whose cosines and sines are
/// `[1 or batch, seq, 1, dim / 2]`, or turned back. `None` as for [`row_means`](super::row_means).
pub(crate) fn rotated(x: &Tensor<4>, [cos, sin]: [&Tensor<4>; 2], is_back: bool) -> Option<Tensor<4>> {
    let [x, cos, sin] = [operand(x)?, operand(cos)?, operand(sin)?];
    Some(Tensor::from_primitive::<Cube>(Cube::rotated(x, cos, sin, is_back)))
}

pub(super) fn pairs(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, is_back: bool) -> CubeTensor {
    let [x, cos, sin] = [x, cos, sin].map(into_contiguous);
    let (shape, angles) = (x.shape(), cos.shape().num_elements());
    let (heads, half, count) = (shape[2], shape[3] / 2, shape.num_elements() / 2);
    let output = empty(&x, shape);
    #[expect(unsafe_code, reason = "the kernel checks its bounds itself")]
    // SAFETY: a pair is read and written where it is one of `count`, and its angle is one of `angles`
    unsafe {
        rotation_kernel::launch_unchecked(
            &output.client,
            across(count.div_ceil(THREADS as usize)),
            CubeDim::new_1d(THREADS),
            x.required_address_type(),
            x.clone().into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            output.clone().into_buffer_arg(),
            count,
            heads,
            half,
            angles,
            is_back,
        );
    }
    output
}

/// A thread for each pair.
#[expect(clippy::too_many_arguments, reason = "a kernel has no structs of sizes")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn rotation_kernel(
    input: &[f32],
    cosines: &[f32],
    sines: &[f32],
    output: &mut [f32],
    count: usize,
    heads: usize,
    half: usize,
    angles: usize,
    #[comptime] is_back: bool,
) {
    let pair = group() * comptime!(THREADS as usize) + UNIT_POS_X as usize;
    if pair < count {
        let (head, column) = (pair / half, pair % half);
        let angle = (head / heads * half + column) % angles;
        let place = 2 * half * head + column;
        let (a, b) = (input[place], input[place + half]);
        let (cos, mut sin) = (cosines[angle], sines[angle]);
        if is_back {
            sin = -sin;
        }
        output[place] = a * cos - b * sin;
        output[place + half] = b * cos + a * sin;
    }
}
