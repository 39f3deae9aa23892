//! Operands and outputs as cuBLAS reads them.

use burn_backend::TensorMetadata;
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};
use cubecl::server::BufferBinding;
use cudarc::cublas::sys::{cublasOperation_t as Operation, cudaDataType};

use super::parts::Parts;

/// Matrices of a size, as cuBLAS reads them.
pub(super) struct Matrices {
    pub(super) memory: BufferBinding,
    pub(super) kind: cudaDataType,
    pub(super) lines_are_rows: bool,
    /// Numbers from one line to the next.
    pub(super) pitch: usize,
    /// How many there are in two leading dimensions, and numbers from one to the next.
    counts: [usize; 2],
    strides: [usize; 2],
}

impl Matrices {
    pub(super) fn of_parts(parts: &Parts) -> Self {
        let size = parts.numbers.shape();
        Self {
            memory: parts.numbers.handle.clone().binding(),
            kind: cudaDataType::CUDA_R_16BF,
            lines_are_rows: parts.lines_are_rows,
            pitch: size[2],
            counts: [1, size[0]],
            strides: [0, size[1] * size[2]],
        }
    }

    /// Those of a tensor in f32, copied if neither its rows nor its columns lie side by side.
    pub(super) fn of(x: &CubeTensor) -> Self {
        Self::find(x).unwrap_or_else(|| {
            Self::find(&into_contiguous(x.clone())).expect("rows of a contiguous tensor lie side by side")
        })
    }

    pub(super) fn find(x: &CubeTensor) -> Option<Self> {
        let (shape, strides) = (x.shape(), x.meta.strides());
        let rank = shape.num_dims();
        let (rows, columns) = (rank - 2, rank - 1);
        let is_side_by_side = |along: usize, line: usize| {
            strides[along] == 1 && (strides[line] >= shape[along] || shape[line] == 1)
        };
        let lines_are_rows = match () {
            () if is_side_by_side(columns, rows) => true,
            () if is_side_by_side(rows, columns) => false,
            () => return None,
        };
        let (line, along) = if lines_are_rows { (rows, columns) } else { (columns, rows) };
        let [outer, inner] = leading(x);
        Some(Self {
            memory: x.handle.clone().binding(),
            kind: cudaDataType::CUDA_R_32F,
            lines_are_rows,
            pitch: strides[line].max(shape[along]),
            counts: [outer.0, inner.0],
            strides: [outer.1, inner.1],
        })
    }

    pub(super) fn batch(&self) -> usize {
        self.counts[0] * self.counts[1]
    }

    /// Numbers from one matrix to the next, if it is always the same.
    pub(super) fn stride(&self) -> Option<usize> {
        let ([outer, inner], [far, near]) = (self.counts, self.strides);
        match () {
            () if outer == 1 => Some(near),
            () if inner == 1 => Some(far),
            () => (far == inner * near).then_some(near),
        }
    }

    /// Where each begins, given where the first does; all are of f32.
    pub(super) fn places(&self, first: u64) -> impl Iterator<Item = u64> {
        let ([outer, inner], [far, near]) = (self.counts, self.strides);
        let place = move |i, j| first + (size_of::<f32>() * (i * far + j * near)) as u64;
        (0..outer).flat_map(move |i| (0..inner).map(move |j| place(i, j)))
    }

    /// cuBLAS reads columns where there are rows here.
    pub(super) fn operation(&self) -> Operation {
        if self.lines_are_rows { Operation::CUBLAS_OP_N } else { Operation::CUBLAS_OP_T }
    }
}

/// Lengths and strides of the two dimensions before a tensor's matrices; one that is not there has one element.
pub(super) fn leading(x: &CubeTensor) -> [(usize, usize); 2] {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    [4, 3].map(|from_the_end| match shape.num_dims().checked_sub(from_the_end) {
        Some(dim) => (shape[dim], strides[dim]),
        None => (1, 0),
    })
}
