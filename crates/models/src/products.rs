//! How exact a device's matrix products are.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::RngExt;

use crate::{
    MatmulPrecision,
    device::backend_of,
    keyed_rng,
    matmul::{matmul, matmul_plus},
};

/// `[batch, rows, inner, columns]`: many small products, and single ones, of even and of odd sizes.
const SIZES: [[usize; 4]; 5] =
    [[6, 13, 64, 17], [1, 8, 96, 72], [1, 128, 136, 144], [1, 131, 133, 129], [1, 132, 200, 147]];

/// The largest relative l2 error of a device's products at each of its precisions, against f64 on the CPU: of several
/// sizes, with operands that lie in rows or in columns, and with and without what is added.
pub fn product_errors(device: &Device) -> Vec<(MatmulPrecision, f64)> {
    let precisions = backend_of(device).precisions().iter();
    precisions.map(|&precision| (precision, worst(device, precision))).collect()
}

fn worst(device: &Device, precision: MatmulPrecision) -> f64 {
    let mut worst = 0.0f64;
    for [batch, rows, inner, columns] in SIZES {
        for [left_turned, right_turned] in [[false, false], [true, false], [false, true], [true, true]] {
            let a = Operand::new([batch, rows, inner], left_turned);
            let b = Operand::new([batch, inner, columns], right_turned);
            let c = Operand::new([batch, rows, columns], false);
            let cpu = Device::flex();
            let exact = a.on(&cpu, DType::F64).matmul(b.on(&cpu, DType::F64));
            let (left, right) = (a.on(device, DType::F32), b.on(device, DType::F32));
            let product = matmul(left.clone(), right.clone(), precision);
            let sum = matmul_plus(left, right, c.on(device, DType::F32), precision);
            worst = worst.max(distance(&product, exact.clone()));
            worst = worst.max(distance(&sum, exact + c.on(&cpu, DType::F64)));
        }
    }
    worst
}

/// Random numbers, and whether they lie in memory by columns.
struct Operand {
    size: [usize; 3],
    numbers: Vec<f32>,
    is_turned: bool,
}

impl Operand {
    fn new(size: [usize; 3], is_turned: bool) -> Self {
        let mut rng = keyed_rng([3, size[0] as u64, size[1] as u64, size[2] as u64]);
        let numbers = (0..size.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
        Self { size, numbers, is_turned }
    }

    fn on(&self, device: &Device, dtype: DType) -> Tensor<3> {
        let [batch, rows, columns] = self.size;
        let size = if self.is_turned { [batch, columns, rows] } else { self.size };
        let tensor = Tensor::from_data(TensorData::new(self.numbers.clone(), size), (device, dtype));
        if self.is_turned { tensor.swap_dims(1, 2) } else { tensor }
    }
}

/// Relative l2 distance; NaN is infinitely far.
fn distance(found: &Tensor<3>, exact: Tensor<3>) -> f64 {
    let [found, exact] = [found.to_data_as::<f64>(), exact.to_data_as::<f64>()];
    let (mut error, mut size) = (0.0, 0.0);
    for (found, exact) in found.iter::<f64>().zip(exact.iter::<f64>()) {
        error += (found - exact).powi(2);
        size += exact.powi(2);
    }
    let distance = (error / size).sqrt();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_rounds_as_f32_does() {
        let errors = product_errors(&Device::flex());
        assert!(errors.iter().all(|(_, error)| (1e-9..1e-6).contains(error)), "{errors:?}");
    }
}
