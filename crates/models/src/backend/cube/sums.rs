//! Sums along a dimension, read by neighbouring threads at neighbouring places. burn's kernel has a thread for
//! each output, which reads its whole row by itself.

use burn::{
    backend::tensor::FloatTensor,
    tensor::{DType, Tensor},
};
use burn_backend::{Shape, TensorMetadata};
use burn_cubecl::{
    Cube, kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use cubecl::prelude::*;

use super::Kernels;

/// Threads side by side.
pub(super) const LANES: u32 = 32;
/// Such rows of threads in a group.
pub(super) const GROUP: u32 = 8;
/// Rows that a group adds up; with more there is a second pass over the groups' sums.
const PART: usize = 256;
/// Groups in one dimension at most, which WebGPU limits.
const GROUPS: usize = 32_768;

/// The mean of each row, along the last dimension, with size 1; `None` for tensors elsewhere, tracked ones, other types
/// than f32, and where there is nothing to add.
pub(crate) fn row_means<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    Some(Tensor::from_primitive::<Cube>(Cube::row_means(operand(x)?)))
}

/// The sum of the products of each row's numbers with those of the other's row, times a factor, without a place for the
/// products; `None` as for [`row_means`].
pub(crate) fn dot_rows<const D: usize>(a: &Tensor<D>, b: &Tensor<D>, factor: f32) -> Option<Tensor<D>> {
    Some(Tensor::from_primitive::<Cube>(Cube::dot_rows(operand(a)?, operand(b)?, factor)))
}

/// The sum of all rows of `[rows, columns]`, in the shape `[1, columns]`; `None` as for [`row_means`].
pub(crate) fn sum_of_rows(x: &Tensor<2>) -> Option<Tensor<2>> {
    Some(Tensor::from_primitive::<Cube>(Cube::sum_of_rows(operand(x)?)))
}

pub(super) fn operand<const D: usize>(x: &Tensor<D>) -> Option<FloatTensor<Cube>> {
    let fits = x.dtype() == DType::F32 && x.dims().iter().all(|&size| size > 0);
    fits.then(|| x.clone().try_into_primitive::<Cube>().ok())?
}

pub(super) fn shape_of_rows(x: &Shape) -> Shape {
    let mut sizes: Vec<usize> = x.iter().copied().collect();
    *sizes.last_mut().expect("a tensor has a dimension") = 1;
    Shape::from(sizes)
}

pub(super) fn shape_of_sum(x: &Shape) -> Shape {
    Shape::from(vec![1, x[1]])
}

/// Groups of threads for the rows of a tensor.
pub(super) struct Groups {
    pub(super) rows: usize,
    pub(super) length: usize,
    pub(super) count: CubeCount,
}

impl Groups {
    pub(super) fn of(x: &CubeTensor) -> Self {
        let shape = x.shape();
        let length = shape[shape.num_dims() - 1];
        let rows = shape.num_elements() / length;
        Self { rows, length, count: across(rows.div_ceil(GROUP as usize)) }
    }
}

/// So many groups of threads, or a few more, in two dimensions.
pub(super) fn across(groups: usize) -> CubeCount {
    let across = groups.min(GROUPS);
    CubeCount::Static(across as u32, groups.div_ceil(across) as u32, 1)
}

/// Which of the groups of [`across`] a thread is in.
#[cube]
pub(super) fn group() -> usize {
    CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize
}

pub(super) fn means(x: CubeTensor) -> CubeTensor {
    let Groups { length, .. } = Groups::of(&x);
    sums(x, None, 1.0 / length as f32)
}

/// The sums of the rows of x, times those of `by` if there are any, times a factor.
pub(super) fn sums(x: CubeTensor, by: Option<CubeTensor>, factor: f32) -> CubeTensor {
    let x = into_contiguous(x);
    let is_product = by.is_some();
    let by = by.map_or_else(|| x.clone(), into_contiguous);
    assert_eq!(x.shape(), by.shape(), "each number has one that it is multiplied by");
    let output = empty(&x, shape_of_rows(&x.shape()));
    let Groups { rows, length, count } = Groups::of(&x);
    #[expect(unsafe_code, reason = "the kernel checks its bounds itself")]
    // SAFETY: a row is read and written where it is one of `rows`, and its numbers below `length`
    unsafe {
        rows_kernel::launch_unchecked(
            &output.client,
            count,
            CubeDim::new_2d(LANES, GROUP),
            x.required_address_type(),
            x.clone().into_buffer_arg(),
            by.into_buffer_arg(),
            output.clone().into_buffer_arg(),
            rows,
            length,
            factor,
            is_product,
        );
    }
    output
}

pub(super) fn columns(x: CubeTensor) -> CubeTensor {
    let x = into_contiguous(x);
    let [rows, columns] = [0, 1].map(|dim| x.shape()[dim]);
    let parts = rows.div_ceil(PART);
    // both passes are short
    let each = if parts > 1 { PART } else { rows };
    let output = empty(&x, Shape::from(vec![parts, columns]));
    let across = columns.div_ceil(LANES as usize);
    #[expect(unsafe_code, reason = "the kernel checks its bounds itself")]
    // SAFETY: a number is read where its row and column are inside, and written where its column is
    unsafe {
        columns_kernel::launch_unchecked(
            &output.client,
            CubeCount::Static(across as u32, parts as u32, 1),
            CubeDim::new_2d(LANES, GROUP),
            x.required_address_type(),
            x.clone().into_buffer_arg(),
            output.clone().into_buffer_arg(),
            rows,
            columns,
            each,
        );
    }
    if parts > 1 { self::columns(output) } else { output }
}

pub(super) fn empty(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, DType::F32)
}

/// A row of threads for each row: each thread every 32nd number, then the threads by halves.
#[cube(launch_unchecked, address_type = "dynamic")]
fn rows_kernel(
    input: &[f32],
    by: &[f32],
    output: &mut [f32],
    rows: usize,
    length: usize,
    factor: f32,
    #[comptime] is_product: bool,
) {
    let row = group() * comptime!(GROUP as usize) + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let place = UNIT_POS_Y as usize * comptime!(LANES as usize) + lane;
    let mut shared = Shared::<[f32]>::new_slice(comptime!((LANES * GROUP) as usize));
    let mut sum = 0.0f32;
    if row < rows {
        let start = row * length;
        let mut column = lane;
        while column < length {
            let mut number = input[start + column];
            if is_product {
                number *= by[start + column];
            }
            sum += number;
            column += comptime!(LANES as usize);
        }
    }
    shared[place] = sum;
    halve(&mut shared, place, lane, 1u32, LANES);
    if lane == 0 && row < rows {
        output[row] = factor * shared[place];
    }
}

/// A thread for each column and every 8th row of a part, then the threads of a column by halves.
#[cube(launch_unchecked, address_type = "dynamic")]
fn columns_kernel(input: &[f32], output: &mut [f32], rows: usize, columns: usize, each: usize) {
    let column = CUBE_POS_X as usize * comptime!(LANES as usize) + UNIT_POS_X as usize;
    let part = CUBE_POS_Y as usize;
    let lane = UNIT_POS_Y as usize;
    let place = lane * comptime!(LANES as usize) + UNIT_POS_X as usize;
    let mut shared = Shared::<[f32]>::new_slice(comptime!((LANES * GROUP) as usize));
    let mut sum = 0.0f32;
    if column < columns {
        let end = min((part + 1) * each, rows);
        let mut row = part * each + lane;
        while row < end {
            sum += input[row * columns + column];
            row += comptime!(GROUP as usize);
        }
    }
    shared[place] = sum;
    halve(&mut shared, place, lane, LANES, GROUP);
    if lane == 0 && column < columns {
        output[part * columns + column] = shared[place];
    }
}

/// Adds what `count` lanes have put in their places, `step` apart, into the first one's.
#[cube]
pub(super) fn halve(
    shared: &mut Shared<[f32]>,
    place: usize,
    lane: usize,
    #[comptime] step: u32,
    #[comptime] count: u32,
) {
    sync_cube();
    #[unroll]
    for halving in 0..comptime!(count.ilog2()) {
        let half = comptime!((count >> (halving + 1)) as usize);
        if lane < half {
            shared[place] += shared[place + half * comptime!(step as usize)];
        }
        sync_cube();
    }
}
