//! An operand in f32 as its parts in bfloat16, for tensor cores: `x = high + low` to 16 bits of mantissa.
//!
//! Three products `high high + high low + low high`, summed in f32, are one product along an inner dimension three
//! times as long: the left operand has `high, high, low` one behind the other, the right one `high, low, high`. What is
//! left out, `low low`, is below 2^-16 of the whole.

use std::{cell::RefCell, collections::VecDeque};

use burn_backend::{DType, Shape, TensorMetadata};
use burn_cubecl::{ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor};
use cubecl::prelude::*;
use half::bf16;

use super::matrices::leading;

/// Threads of a group.
const THREADS: u32 = 256;
/// Numbers that a thread reads at once, where they lie side by side.
const VECTOR: usize = 4;
/// Lines of the output begin at multiples of 16 bytes, as fast products want it.
const ALIGNMENT: usize = 8;

/// Operands whose parts are kept for products to come, bytes of all their parts, and of one's at most.
const KEPT: usize = 4;
const KEPT_BYTES: u64 = 1 << 29;
const MOST: u64 = KEPT_BYTES / 2;

/// The side of a product that an operand is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// An operand `[.., rows, columns]` in bfloat16: its three parts, or it alone, rounded. The output is
/// `[batch, lines, pitch]`, where lines are its rows or, if those lie side by side in memory, its columns.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) numbers: CubeTensor,
    pub(super) lines_are_rows: bool,
}

impl Parts {
    /// Parts of an operand, those that were made before if they are kept: what follows one another shares operands, and a
    /// head meets all chunks of hidden states.
    pub(super) fn of(x: &CubeTensor, side: Side, are_three: bool) -> Self {
        MADE.with_borrow_mut(|all| {
            let is_it = |made: &Made| (made.side, made.are_three) == (side, are_three) && made.is_of(x);
            let found = all.iter().position(is_it).and_then(|place| all.remove(place));
            let made = found.unwrap_or_else(|| {
                let parts = Self::new(x, side, are_three);
                Made { of: x.clone(), side, are_three, parts }
            });
            let parts = made.parts.clone();
            if made.bytes() <= MOST {
                all.push_back(made);
            }
            while all.len() > KEPT || all.iter().map(Made::bytes).sum::<u64>() > KEPT_BYTES {
                all.pop_front();
            }
            parts
        })
    }

    fn new(x: &CubeTensor, side: Side, are_three: bool) -> Self {
        let (shape, strides) = (x.shape(), x.meta.strides().clone());
        let rank = shape.num_dims();
        assert!(rank <= 4, "products have at most two leading dimensions");
        let lines_are_rows = strides[rank - 1] == 1 || strides[rank - 2] != 1;
        let (line, along) = if lines_are_rows { (rank - 2, rank - 1) } else { (rank - 1, rank - 2) };
        let (lines, length) = (shape[line], shape[along]);
        let [(outer, outer_stride), (middle, middle_stride)] = leading(x);
        let batch = middle * outer;
        // parts follow one another along the inner dimension: within each line, or line after line
        let within = lines_are_rows == (side == Side::Left);
        let padded = length.next_multiple_of(ALIGNMENT);
        let all_lines = if within { lines } else { lines.next_multiple_of(ALIGNMENT) };
        let parts = if are_three { 3 } else { 1 };
        let size =
            if within { [batch, all_lines, parts * padded] } else { [batch, parts * all_lines, padded] };
        let numbers = empty_device_contiguous_dtype(
            x.client.clone(),
            x.device.clone(),
            Shape::from(size.to_vec()),
            DType::BF16,
        );
        let offset = x.handle.offset_start.unwrap_or(0) as usize / size_of::<f32>();
        let fits = |number: usize| number.is_multiple_of(VECTOR);
        let is_dense = strides[along] == 1
            && [length, strides[line], middle_stride, outer_stride, offset].into_iter().all(fits);
        let vector = if is_dense { VECTOR } else { 1 };
        let count = batch * all_lines * padded / vector;
        #[expect(unsafe_code, reason = "the kernel checks its bounds itself")]
        // SAFETY: a number is read where its line is one of `lines` and its place below `length`, and the output has
        // room for all parts
        unsafe {
            parts_kernel::launch_unchecked(
                &x.client,
                CubeCount::Static(
                    u32::try_from(count.div_ceil(THREADS as usize)).expect("groups are counted in 32 bits"),
                    1,
                    1,
                ),
                CubeDim::new_1d(THREADS),
                x.required_address_type().max(numbers.required_address_type()),
                vector,
                x.clone().into_buffer_arg(),
                numbers.clone().into_buffer_arg(),
                count,
                lines,
                all_lines,
                length / vector,
                padded / vector,
                middle,
                outer_stride / vector,
                middle_stride / vector,
                strides[line] / vector,
                if is_dense { 1 } else { strides[along] },
                within,
                side == Side::Right,
                are_three,
            );
        }
        Self { numbers, lines_are_rows }
    }

    /// An inner dimension of `k` as it is read: with zeros behind each part.
    pub(super) fn inner(k: usize, are_three: bool) -> usize {
        if are_three { 3 * k.next_multiple_of(ALIGNMENT) } else { k.next_multiple_of(ALIGNMENT) }
    }
}

/// Parts and what they were made of. As long as that is held, nobody writes where it lies.
struct Made {
    of: CubeTensor,
    side: Side,
    are_three: bool,
    parts: Parts,
}

impl Made {
    fn is_of(&self, x: &CubeTensor) -> bool {
        let place = |x: &CubeTensor| (x.handle.service, x.handle.offset_start);
        self.of.handle.memory.descriptor() == x.handle.memory.descriptor()
            && place(&self.of) == place(x)
            && (self.of.meta.shape(), self.of.meta.strides()) == (x.meta.shape(), x.meta.strides())
    }

    fn bytes(&self) -> u64 {
        self.parts.numbers.handle.size_in_used()
    }
}

thread_local! {
    /// The last ones that were asked for, the oldest first.
    static MADE: RefCell<VecDeque<Made>> = const { RefCell::new(VecDeque::new()) };
}

#[expect(clippy::too_many_arguments, reason = "a kernel has no structs of sizes")]
#[cube(launch_unchecked, address_type = "dynamic")]
fn parts_kernel<N: Size>(
    input: &[Vector<f32, N>],
    output: &mut [Vector<bf16, N>],
    count: usize,
    lines: usize,
    all_lines: usize,
    length: usize,
    padded: usize,
    middle: usize,
    outer_stride: usize,
    middle_stride: usize,
    line_stride: usize,
    stride: usize,
    #[comptime] within: bool,
    #[comptime] right: bool,
    #[comptime] are_three: bool,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let place = ABSOLUTE_POS % padded;
    let line = ABSOLUTE_POS / padded % all_lines;
    let batch = ABSOLUTE_POS / (padded * all_lines);
    let mut value = Vector::<f32, N>::new(0.0f32);
    if place < length && line < lines {
        let start = batch / middle * outer_stride + batch % middle * middle_stride;
        value = input[start + line * line_stride + place * stride];
    }
    let high = Vector::<bf16, N>::cast_from(value);
    if comptime!(are_three) {
        let low = Vector::<bf16, N>::cast_from(value - Vector::<f32, N>::cast_from(high));
        let (mut first, mut step) = ((batch * 3 * all_lines + line) * padded + place, all_lines * padded);
        if comptime!(within) {
            first = (batch * all_lines + line) * 3 * padded + place;
            step = padded;
        }
        output[first] = high;
        if comptime!(right) {
            output[first + step] = low;
            output[first + 2 * step] = high;
        } else {
            output[first + step] = high;
            output[first + 2 * step] = low;
        }
    } else {
        output[ABSOLUTE_POS] = high;
    }
}
