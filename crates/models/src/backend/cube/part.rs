//! A part of a flat vector as it lies there. burn copies it, unless it begins and ends at multiples of 512 bytes.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_backend::Shape;
use burn_cubecl::{Cube, kernel::slice, tensor::CubeTensor};

use super::{Kernels, sums::operand};

/// Bytes at whose multiples a part may begin: kernels read several numbers at once, and bindings of WebGPU begin there.
const ALIGNMENT: u64 = 256;

/// The numbers of a range. `None` as for [`row_means`](super::row_means).
pub(crate) fn part(flat: &Tensor<1>, range: Range<usize>) -> Option<Tensor<1>> {
    Some(Tensor::from_primitive::<Cube>(Cube::part(operand(flat)?, range.start, range.len())))
}

pub(super) fn of(mut flat: CubeTensor, first: usize, length: usize) -> CubeTensor {
    let size = flat.dtype.size() as u64;
    let (start, end) = (first as u64 * size, (flat.meta.shape()[0] - first - length) as u64 * size);
    if flat.meta.strides()[0] != 1 || !start.is_multiple_of(ALIGNMENT) {
        let range = first..first + length;
        return slice(flat, std::slice::from_ref(&range));
    }
    *flat.meta.shape_mut() = Shape::from(vec![length]);
    flat.handle = flat.handle.offset_start(start).offset_end(end);
    flat
}
