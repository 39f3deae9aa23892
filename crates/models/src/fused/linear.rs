//! `y = x W (+ b)` and its tangent `y' = x' W + x W' (+ b')`.

use burn_backend::{TensorData, TensorMetadata};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{
    Operation, Real,
    gemm::{Threads, View, multiply, product, zeros},
    rows::TASK,
    slice,
    widen::times,
};
use crate::MatmulPrecision;

/// `x W (+ b)` of `x [rows, in]`, `W [in, out]` in any order in memory and, with N = 3, `b [1, out]`. A weight that has no
/// gradient may be of a narrower type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    /// Of the products; only f32 is fused.
    pub(crate) precision: MatmulPrecision,
}

/// `x' W + x W' (+ b')` of x, x', W, W' and, with N = 5, `b'`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearTangent(pub(crate) Linear);

impl<const N: usize> Operation<N> for Linear {
    fn forward(&self, inputs: &[FlexTensor; N]) -> FlexTensor {
        typed!(&inputs[0], affine(&[[&inputs[0], &inputs[1]]], inputs.get(2)))
    }

    fn backward(
        &self,
        needed: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&FlexTensor>,
        g: &FlexTensor,
    ) -> [Option<FlexTensor>; N] {
        let g = &g.to_contiguous();
        let (x, w) = (&inputs[0], &inputs[1]);
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => typed!(g, times_transposed(g, w)),
                1 => typed!(g, of_weight(x, g, w)),
                _ => typed!(g, column_sums(g)),
            })
        })
    }

    fn widens(&self, input: usize) -> bool {
        input == 1
    }
}

impl<const N: usize> Operation<N> for LinearTangent {
    fn forward(&self, inputs: &[FlexTensor; N]) -> FlexTensor {
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|i| &inputs[i]);
        typed!(x, affine(&[[dx, w], [x, dw]], inputs.get(4)))
    }

    fn backward(
        &self,
        needed: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&FlexTensor>,
        g: &FlexTensor,
    ) -> [Option<FlexTensor>; N] {
        let g = &g.to_contiguous();
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|i| &inputs[i]);
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => typed!(g, times_transposed(g, dw)),
                1 => typed!(g, times_transposed(g, w)),
                2 => typed!(g, of_weight(dx, g, w)),
                3 => typed!(g, of_weight(x, g, dw)),
                _ => typed!(g, column_sums(g)),
            })
        })
    }
}

/// The sum of products of pairs, plus a row.
fn affine<E: Real>(_: E, pairs: &[[&FlexTensor; 2]], bias: Option<&FlexTensor>) -> FlexTensor {
    let view = |[x, w]: [&'_ FlexTensor; 2]| (x.shape()[0], w.shape()[1]);
    let (rows, outputs) = view(pairs[0]);
    let mut y = times(View::<E>::of(pairs[0][0]), pairs[0][1]);
    for [x, w] in &pairs[1..] {
        multiply(&mut y, outputs, true, E::one(), View::of(x), View::of(w), Threads::All);
    }
    if let Some(bias) = bias {
        let bias = bias.to_contiguous();
        let bias = slice::<E>(&bias);
        y.par_chunks_mut((TASK / outputs).max(1) * outputs).for_each(|part| {
            vectorised!(E, part.chunks_exact_mut(outputs).for_each(|y| add(y, bias)));
        });
    }
    FlexTensor::from_data(TensorData::new(y, [rows, outputs]))
}

/// `g W^T`.
fn times_transposed<E: Real>(_: E, g: &FlexTensor, w: &FlexTensor) -> FlexTensor {
    let shape = [g.shape()[0], w.shape()[0]];
    FlexTensor::from_data(TensorData::new(times(View::<E>::of(g), &w.transpose(0, 1)), shape))
}

/// `x^T g`, in the order in memory that the weight has.
fn of_weight<E: Real>(_: E, x: &FlexTensor, g: &FlexTensor, w: &FlexTensor) -> FlexTensor {
    let (x, g) = (View::<E>::of(x), View::of(g));
    let [inputs, outputs] = [x.shape[1], g.shape[1]];
    if View::<E>::of(w).strides[0] == 1 && inputs > 1 {
        let transposed = TensorData::new(product(g.t(), x), [outputs, inputs]);
        return FlexTensor::from_data(transposed).transpose(0, 1);
    }
    FlexTensor::from_data(TensorData::new(product(x.t(), g), [inputs, outputs]))
}

/// Sums over rows, `[1, n]`. The rows of a task are fixed by their size, so the sums are the same on
/// any number of threads.
fn column_sums<E: Real>(_: E, g: &FlexTensor) -> FlexTensor {
    let n = g.shape()[1];
    let parts: Vec<Vec<E>> = slice::<E>(g)
        .par_chunks((4 * TASK / n).max(1) * n)
        .map(|part| {
            let mut sums = vec![E::zero(); n];
            vectorised!(E, part.chunks_exact(n).for_each(|row| add(&mut sums, row)));
            sums
        })
        .collect();
    let mut sums = zeros(n);
    for part in &parts {
        add(&mut sums, part);
    }
    FlexTensor::from_data(TensorData::new(sums, [1, n]))
}

/// `sum += x`.
#[inline(always)]
pub(super) fn add<E: Real>(sum: &mut [E], x: &[E]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum = *sum + *x;
    }
}
