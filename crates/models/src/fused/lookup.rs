//! Rows of a table. burn's `select` copies the whole table where that is a part of a longer vector, as an embedding is.

use std::sync::Arc;

use burn_backend::{DType, Element, TensorData, TensorMetadata};
use burn_flex::FlexTensor;
use bytemuck::Pod;
use half::{bf16, f16};

use super::{Operation, Real, gemm::zeros, linear::add, slice};

/// Rows `[rows.len(), width]` of a table `[n, width]`, in its type, which may be a narrower one.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    /// Below n.
    pub(crate) rows: Arc<[u32]>,
}

impl Operation<1> for Lookup {
    fn forward(&self, [table]: &[FlexTensor; 1]) -> [FlexTensor; 1] {
        [match table.dtype() {
            DType::F64 => picked::<f64>(&self.rows, table),
            DType::F32 => picked::<f32>(&self.rows, table),
            DType::BF16 => picked::<bf16>(&self.rows, table),
            _ => picked::<f16>(&self.rows, table),
        }]
    }

    fn backward(
        &self,
        _: [bool; 1],
        [table]: &[FlexTensor; 1],
        _: Option<&[FlexTensor; 1]>,
        [g]: [&FlexTensor; 1],
    ) -> [Option<FlexTensor>; 1] {
        [Some(typed!(g, sums(&self.rows, table, g)))]
    }

    fn takes(&self, dtype: DType) -> bool {
        matches!(dtype, DType::F64 | DType::F32 | DType::BF16 | DType::F16)
    }
}

fn picked<E: Element + Pod>(rows: &[u32], table: &FlexTensor) -> FlexTensor {
    let (layout, width) = (table.layout(), table.shape()[1]);
    let table = if layout.strides()[1] == 1 { table.clone() } else { table.to_contiguous() };
    let (numbers, layout) = (table.storage::<E>(), table.layout());
    let stride = usize::try_from(layout.strides()[0]).expect("nothing is flipped");
    assert!(
        rows.iter().all(|&row| (row as usize) < layout.shape()[0]),
        "the table has every row that is asked for"
    );
    let mut output = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        let start = layout.start_offset() + row as usize * stride;
        output.extend_from_slice(&numbers[start..start + width]);
    }
    FlexTensor::from_data(TensorData::new(output, [rows.len(), width]))
}

/// The sum of the gradients of a row's copies, for every row of the table.
fn sums<E: Real>(_: E, rows: &[u32], table: &FlexTensor, g: &FlexTensor) -> FlexTensor {
    let shape = table.shape();
    let (n, width) = (shape[0], shape[1]);
    let mut output: Vec<E> = zeros(n * width);
    let g = g.to_contiguous();
    for (&row, g) in rows.iter().zip(slice::<E>(&g).chunks_exact(width)) {
        add(&mut output[row as usize * width..][..width], g);
    }
    FlexTensor::from_data(TensorData::new(output, [n, width]))
}
