//! `y = x W (+ b)` and its tangent.

use burn::tensor::Tensor;

use super::{Composed, compose, sum_of_rows};
use crate::{
    MatmulPrecision,
    fused::{Linear, LinearTangent},
    matmul::{matmul as multiply, matmul_plus as multiply_plus},
};

impl<const N: usize> Composed<2, N> for Linear {
    fn value(&self, inputs: [Tensor<2>; N]) -> Tensor<2> {
        let (x, w) = (inputs[0].clone(), like(&inputs[0], &inputs[1]));
        match inputs.get(2) {
            None => multiply(x, w, self.precision),
            Some(b) => multiply_plus(x, w, b.clone(), self.precision),
        }
    }

    fn gradients(&self, needed: [bool; N], inputs: [Tensor<2>; N], g: Tensor<2>) -> [Option<Tensor<2>>; N] {
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => multiply(g.clone(), like(&g, &inputs[1]).transpose(), self.precision),
                1 => of_weight(&inputs[0], &g, self.precision),
                _ => sum_of_rows(g.clone()),
            })
        })
    }

    fn is_fused(&self) -> bool {
        self.precision == MatmulPrecision::F32
    }
}

impl<const N: usize> Composed<2, N> for LinearTangent {
    fn value(&self, inputs: [Tensor<2>; N]) -> Tensor<2> {
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|input| inputs[input].clone());
        let dy = match inputs.get(4) {
            None => multiply(dx, w, self.0.precision),
            Some(db) => multiply_plus(dx, w, db.clone(), self.0.precision),
        };
        multiply_plus(x, dw, dy, self.0.precision)
    }

    fn gradients(&self, needed: [bool; N], inputs: [Tensor<2>; N], g: Tensor<2>) -> [Option<Tensor<2>>; N] {
        let precision = self.0.precision;
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => multiply(g.clone(), inputs[3].clone().transpose(), precision),
                1 => multiply(g.clone(), inputs[2].clone().transpose(), precision),
                2 => of_weight(&inputs[1], &g, precision),
                3 => of_weight(&inputs[0], &g, precision),
                _ => sum_of_rows(g.clone()),
            })
        })
    }

    fn is_fused(&self) -> bool {
        self.0.precision == MatmulPrecision::F32
    }
}

/// A weight in the type of what it is multiplied with; a frozen one may be of a narrower type.
pub(super) fn like(x: &Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    weight.clone().cast(x.dtype())
}

/// `x^T g`.
fn of_weight(x: &Tensor<2>, g: &Tensor<2>, precision: MatmulPrecision) -> Tensor<2> {
    multiply(x.clone().transpose(), g.clone(), precision)
}

/// `a b` of tracked tensors, the products of its gradients at the same precision.
pub(crate) fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, precision: MatmulPrecision) -> Tensor<D> {
    compose(Multiply(precision), [a, b])
}

#[derive(Clone, Copy, Debug)]
struct Multiply(MatmulPrecision);

impl<const D: usize> Composed<D, 2> for Multiply {
    fn value(&self, [a, b]: [Tensor<D>; 2]) -> Tensor<D> {
        multiply(a, b, self.0)
    }

    fn gradients(&self, needed: [bool; 2], [a, b]: [Tensor<D>; 2], g: Tensor<D>) -> [Option<Tensor<D>>; 2] {
        let swapped = |x: Tensor<D>| x.swap_dims(D - 2, D - 1);
        [
            needed[0].then(|| multiply(g.clone(), swapped(b), self.0)),
            needed[1].then(|| multiply(swapped(a), g, self.0)),
        ]
    }
}
