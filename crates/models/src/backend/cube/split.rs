//! f32 as two bfloat16, for products on tensor cores: `x = high + low` to 16 bits of mantissa.
//!
//! Three products `high high + high low + low high`, summed in f32, are one product along an inner dimension
//! three times as long: the left operand holds `high, high, low` side by side, the right one `high, low, high`.
//! What is left out, `low low`, is below 2^-16 of the whole.

use burn_backend::{DType, Shape, TensorMetadata};
use burn_cubecl::{ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor};
use cubecl::prelude::*;
use half::bf16;

/// Side of the tile that a group of threads moves.
const TILE: u32 = 32;
/// Rows of threads of a group, which therefore move 4 elements each.
const ROWS: u32 = 8;
/// A row in shared memory has one more than [`TILE`] elements, so that a column lies in as many banks.
const PITCH: usize = TILE as usize + 1;
/// Inner dimensions are padded with zeros to a multiple of it, which lets kernels read 16 bytes at a time.
const ALIGNMENT: usize = 8;

/// The side of a product that an operand is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// `[.., rows, inner]` to `[.., rows, 3 padded]`, contiguous; of the right operand `[.., inner, columns]` to
/// `[.., 3 padded, columns]`, each column contiguous.
pub(super) fn split(x: &CubeTensor, side: Side) -> CubeTensor {
    let shape: Vec<usize> = x.shape().iter().copied().collect();
    let strides: Vec<usize> = x.meta.strides().iter().copied().collect();
    let rank = shape.len();
    assert!(rank <= 4, "products have at most two leading dimensions");
    let (of_rows, of_inner) = match side {
        Side::Left => (rank - 2, rank - 1),
        Side::Right => (rank - 1, rank - 2),
    };
    let (rows, inner) = (shape[of_rows], shape[of_inner]);
    let padded = inner.next_multiple_of(ALIGNMENT);
    // a leading dimension that is not there has one element
    let leading = |from_the_end: usize| match rank.checked_sub(2 + from_the_end) {
        Some(dim) => (shape[dim], strides[dim]),
        None => (1, 0),
    };
    let ((middle, middle_stride), (outer, outer_stride)) = (leading(1), leading(2));
    let mut lengths = shape[..rank - 2].to_vec();
    lengths.extend([rows, 3 * padded]);
    let mut output =
        empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), Shape::from(lengths), DType::BF16);
    let tiles = padded.div_ceil(TILE as usize);
    let groups = |count: usize| u32::try_from(count).expect("a device counts its groups in 32 bits");
    #[expect(unsafe_code, reason = "the kernel checks its bounds itself")]
    // SAFETY: an element is read where its row and column are inside, and the output has room for all
    unsafe {
        split_kernel::launch_unchecked(
            &output.client,
            CubeCount::Static(groups(tiles * middle * outer), groups(rows.div_ceil(TILE as usize)), 1),
            CubeDim::new_2d(TILE, ROWS),
            address(x, &output),
            x.clone().into_buffer_arg(),
            output.clone().into_buffer_arg(),
            rows,
            inner,
            padded,
            middle,
            outer_stride,
            middle_stride,
            strides[of_rows],
            strides[of_inner],
            strides[of_inner] != 1 && strides[of_rows] == 1,
            side == Side::Right,
        );
    }
    if side == Side::Right {
        output.meta.swap(rank - 2, rank - 1);
    }
    output
}

/// Offsets have 64 bits where a tensor needs them.
fn address(x: &CubeTensor, output: &CubeTensor) -> AddressType {
    x.required_address_type().max(output.required_address_type())
}

#[expect(clippy::too_many_arguments, reason = "a kernel has no structs of sizes")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn split_kernel(
    input: &[f32],
    output: &mut [bf16],
    rows: usize,
    inner: usize,
    padded: usize,
    middle: usize,
    outer_stride: usize,
    middle_stride: usize,
    row_stride: usize,
    inner_stride: usize,
    #[comptime] across: bool,
    #[comptime] right: bool,
) {
    let tile = comptime!(TILE as usize);
    let tiles = padded.div_ceil(tile);
    let batch = CUBE_POS_X as usize / tiles;
    let first_column = CUBE_POS_X as usize % tiles * tile;
    let first_row = CUBE_POS_Y as usize * tile;
    let start = batch / middle * outer_stride + batch % middle * middle_stride;
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(TILE as usize * PITCH));
    if across {
        // rows lie side by side in memory: neighbouring threads read neighbouring rows
        for i in 0..comptime!(TILE / ROWS) {
            let step = y + (i * comptime!(ROWS)) as usize;
            let (row, column) = (first_row + x, first_column + step);
            let mut value = 0.0f32;
            if row < rows && column < inner {
                value = input[start + row * row_stride + column * inner_stride];
            }
            shared[step * comptime!(PITCH) + x] = value;
        }
        sync_cube();
    }
    for i in 0..comptime!(TILE / ROWS) {
        let step = y + (i * comptime!(ROWS)) as usize;
        let (row, column) = (first_row + step, first_column + x);
        let mut value = 0.0f32;
        if across {
            value = shared[x * comptime!(PITCH) + step];
        } else if row < rows && column < inner {
            value = input[start + row * row_stride + column * inner_stride];
        }
        if row < rows && column < padded {
            let high = bf16::cast_from(value);
            let low = bf16::cast_from(value - f32::cast_from(high));
            let place = (batch * rows + row) * 3 * padded + column;
            output[place] = high;
            if right {
                output[place + padded] = low;
                output[place + 2 * padded] = high;
            } else {
                output[place + padded] = high;
                output[place + 2 * padded] = low;
            }
        }
    }
}
