//! `y = x W (+ b)`, alone and with its tangent.

use burn::tensor::Tensor;

use super::{Composed, compose, sum_of_rows};
use crate::{
    MatmulPrecision,
    fused::{Linear, LinearDual},
    matmul::{matmul as multiply, matmul_plus as multiply_plus},
};

impl<const N: usize> Composed<2, N> for Linear {
    fn value(&self, inputs: [Tensor<2>; N]) -> [Tensor<2>; 1] {
        let (x, w) = (inputs[0].clone(), like(&inputs[0], &inputs[1]));
        [product_plus(x, w, inputs.get(2), self.precision)]
    }

    fn gradients(
        &self,
        needed: [bool; N],
        inputs: [Tensor<2>; N],
        [g]: [Tensor<2>; 1],
    ) -> [Option<Tensor<2>>; N] {
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => multiply(g.clone(), like(&g, &inputs[1]).transpose(), self.precision),
                1 => multiply(inputs[0].clone().transpose(), g.clone(), self.precision),
                _ => sum_of_rows(g.clone()),
            })
        })
    }

    fn is_fused(&self) -> bool {
        self.precision == MatmulPrecision::F32
    }
}

impl<const N: usize> Composed<2, N, 2> for LinearDual {
    fn value(&self, inputs: [Tensor<2>; N]) -> [Tensor<2>; 2] {
        let precision = self.0.precision;
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|input| inputs[input].clone());
        let y = product_plus(x.clone(), w.clone(), inputs.get(4), precision);
        let dy = product_plus(dx, w, inputs.get(5), precision);
        [y, multiply_plus(x, dw, dy, precision)]
    }

    fn gradients(
        &self,
        needed: [bool; N],
        inputs: [Tensor<2>; N],
        [g, dg]: [Tensor<2>; 2],
    ) -> [Option<Tensor<2>>; N] {
        let precision = self.0.precision;
        let product = |a: &Tensor<2>, b: &Tensor<2>| multiply(a.clone(), b.clone(), precision);
        let plus = |a: &Tensor<2>, b: &Tensor<2>, sum| multiply_plus(a.clone(), b.clone(), sum, precision);
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|input| inputs[input].clone().transpose());
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => plus(&dg, &dw, product(&g, &w)),
                1 => product(&dg, &w),
                2 => plus(&dx, &dg, product(&x, &g)),
                3 => product(&x, &dg),
                4 => sum_of_rows(g.clone()),
                _ => sum_of_rows(dg.clone()),
            })
        })
    }

    fn is_fused(&self) -> bool {
        self.0.precision == MatmulPrecision::F32
    }
}

/// `a b`, plus a row if there is one.
fn product_plus(
    a: Tensor<2>,
    b: Tensor<2>,
    row: Option<&Tensor<2>>,
    precision: MatmulPrecision,
) -> Tensor<2> {
    match row {
        None => multiply(a, b, precision),
        Some(row) => multiply_plus(a, b, row.clone(), precision),
    }
}

/// A weight in the type of what it is multiplied with; a frozen one may be of a narrower type.
pub(super) fn like(x: &Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    weight.clone().cast(x.dtype())
}

/// `a b` of tracked tensors, the products of its gradients at the same precision.
pub(crate) fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, precision: MatmulPrecision) -> Tensor<D> {
    let [product] = compose(Multiply(precision), [a, b]);
    product
}

#[derive(Clone, Copy, Debug)]
struct Multiply(MatmulPrecision);

impl<const D: usize> Composed<D, 2> for Multiply {
    fn value(&self, [a, b]: [Tensor<D>; 2]) -> [Tensor<D>; 1] {
        [multiply(a, b, self.0)]
    }

    fn gradients(
        &self,
        needed: [bool; 2],
        [a, b]: [Tensor<D>; 2],
        [g]: [Tensor<D>; 1],
    ) -> [Option<Tensor<D>>; 2] {
        let swapped = |x: Tensor<D>| x.swap_dims(D - 2, D - 1);
        [
            needed[0].then(|| multiply(g.clone(), swapped(b), self.0)),
            needed[1].then(|| multiply(swapped(a), g, self.0)),
        ]
    }
}
