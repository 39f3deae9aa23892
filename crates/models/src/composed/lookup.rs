//! Rows of a table.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::Composed;
use crate::fused::Lookup;

impl Lookup {
    fn index(&self, table: &Tensor<2>) -> Tensor<1, Int> {
        let rows: Vec<i64> = self.rows.iter().map(|&row| row.into()).collect();
        Tensor::from_data(TensorData::new(rows, [self.rows.len()]), &table.device())
    }
}

impl Composed<2, 1> for Lookup {
    fn value(&self, [table]: [Tensor<2>; 1]) -> [Tensor<2>; 1] {
        let index = self.index(&table);
        [table.select(0, index)]
    }

    fn gradients(
        &self,
        _: [bool; 1],
        [table]: [Tensor<2>; 1],
        [g]: [Tensor<2>; 1],
    ) -> [Option<Tensor<2>>; 1] {
        let index = self.index(&table);
        [Some(table.zeros_like().select_assign(0, index, g, IndexingUpdateOp::Add))]
    }
}
