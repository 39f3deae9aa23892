//! `y = x W (+ b)`, alone and with its tangent `y' = x' W + x W' (+ b')`.

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

/// [`Linear`] and its tangent `x' W + x W' (+ b')`, of x, x', W, W' and, with N = 5 or 6, b and perhaps b'.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearDual(pub(crate) Linear);

impl<const N: usize> Operation<N> for Linear {
    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; 1] {
        [typed!(&inputs[0], affine(&[[&inputs[0], &inputs[1]]], inputs.get(2)))]
    }

    fn backward(
        &self,
        needed: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&[FlexTensor; 1]>,
        [g]: [&FlexTensor; 1],
    ) -> [Option<FlexTensor>; N] {
        let g = &g.to_contiguous();
        let (x, w) = (&inputs[0], &inputs[1]);
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => typed!(g, times_transposed(&[[g, w]])),
                1 => typed!(g, of_weight(&[[x, g]], w)),
                _ => typed!(g, column_sums(g)),
            })
        })
    }

    fn widens(&self, input: usize) -> bool {
        input == 1
    }
}

impl<const N: usize> Operation<N, 2> for LinearDual {
    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; 2] {
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|i| &inputs[i]);
        [typed!(x, affine(&[[x, w]], inputs.get(4))), typed!(x, affine(&[[dx, w], [x, dw]], inputs.get(5)))]
    }

    fn backward(
        &self,
        needed: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&[FlexTensor; 2]>,
        gradients: [&FlexTensor; 2],
    ) -> [Option<FlexTensor>; N] {
        let [g, dg] = &gradients.map(FlexTensor::to_contiguous);
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|i| &inputs[i]);
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => typed!(g, times_transposed(&[[g, w], [dg, dw]])),
                1 => typed!(g, times_transposed(&[[dg, w]])),
                2 => typed!(g, of_weight(&[[x, g], [dx, dg]], w)),
                3 => typed!(g, of_weight(&[[x, dg]], dw)),
                4 => typed!(g, column_sums(g)),
                _ => typed!(g, column_sums(dg)),
            })
        })
    }
}

/// The sum of products of pairs, plus a row.
fn affine<E: Real>(_: E, pairs: &[[&FlexTensor; 2]], bias: Option<&FlexTensor>) -> FlexTensor {
    let [[x, w], rest @ ..] = pairs else { unreachable!("there is a product") };
    let (rows, outputs) = (x.shape()[0], w.shape()[1]);
    let mut y = times(View::<E>::of(x), w);
    add_products(&mut y, rest.iter().map(|[x, w]| [View::of(x), View::of(w)]));
    if let Some(bias) = bias {
        let bias = bias.to_contiguous();
        let bias = slice::<E>(&bias);
        y.par_chunks_mut((TASK / outputs).max(1) * outputs).for_each(|part| {
            vectorised!(E, part.chunks_exact_mut(outputs).for_each(|y| add(y, bias)));
        });
    }
    FlexTensor::from_data(TensorData::new(y, [rows, outputs]))
}

/// `sum += a b` for some pairs.
fn add_products<'a, E: Real>(sum: &mut [E], pairs: impl Iterator<Item = [View<'a, E>; 2]>) {
    for [a, b] in pairs {
        multiply(sum, b.shape[1], true, E::one(), a, b, Threads::All);
    }
}

/// The sum of `g W^T` of pairs.
fn times_transposed<E: Real>(_: E, pairs: &[[&FlexTensor; 2]]) -> FlexTensor {
    let [[g, w], rest @ ..] = pairs else { unreachable!("there is a product") };
    let mut sum = times(View::<E>::of(g), &w.transpose(0, 1));
    add_products(&mut sum, rest.iter().map(|[g, w]| [View::of(g), View::of(w).t()]));
    FlexTensor::from_data(TensorData::new(sum, [g.shape()[0], w.shape()[0]]))
}

/// The sum of `x^T g` of pairs, in the order in memory that the weight has.
fn of_weight<E: Real>(_: E, pairs: &[[&FlexTensor; 2]], w: &FlexTensor) -> FlexTensor {
    let is_turned = View::<E>::of(w).strides[0] == 1 && w.shape()[0] > 1;
    let mut pairs = pairs.iter().map(|[x, g]| {
        let (x, g) = (View::<E>::of(x), View::of(g));
        if is_turned { [g.t(), x] } else { [x.t(), g] }
    });
    let [a, b] = pairs.next().expect("there is a product");
    let mut sum = product(a, b);
    add_products(&mut sum, pairs);
    let sum = FlexTensor::from_data(TensorData::new(sum, [a.shape[0], b.shape[1]]));
    if is_turned { sum.transpose(0, 1) } else { sum }
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
