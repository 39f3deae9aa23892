//! What rows of logits say: the log-probability of a token, `x_t - log sum exp(x)`, and how far two
//! distributions are apart.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_backend::{TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::{
    Kernel, Real,
    real::{largest, map, sum},
};
use crate::Dual;

/// Log-probability of token `targets[row]` under logits; one number a row.
#[derive(Clone, Debug)]
pub(crate) struct LogProb {
    pub(crate) targets: Arc<[u32]>,
}

impl LogProb {
    #[inline(always)]
    fn target(&self, row: usize) -> usize {
        self.targets[row] as usize
    }
}

/// `log sum exp(x)`.
#[inline(always)]
fn log_sum_exp<E: Real>(x: &[E]) -> E {
    let shift = largest(x);
    shift + sum([x], |[x]| (x - shift).exponential()).ln()
}

impl Kernel<1> for LogProb {
    const READS_OUTPUTS: bool = true;

    fn output_len(&self, _: usize) -> usize {
        1
    }

    #[inline(always)]
    fn forward<E: Real>(&self, row: usize, [x]: [&[E]; 1], [y]: [&mut [E]; 1]) {
        y[0] = x[self.target(row)] - log_sum_exp(x);
    }

    /// `g (e_t - p)`.
    #[inline(always)]
    fn backward<E: Real>(
        &self,
        row: usize,
        [x]: [&[E]; 1],
        [y]: [&[E]; 1],
        [g]: [&[E]; 1],
        [to_x]: [&mut [E]; 1],
    ) {
        // padding has no gradient
        if g[0] == E::zero() {
            return to_x.fill(E::zero());
        }
        let target = self.target(row);
        let log_sum_exp = x[target] - y[0];
        map([x], to_x, |[x]| -g[0] * (x - log_sum_exp).exponential());
        to_x[target] = to_x[target] + g[0];
    }
}

/// What [`composed::log_probs`](crate::composed::log_probs) says, of logits on the CPU that give way to what goes back to them:
/// one exponential of each, and no memory besides.
pub(crate) fn log_probs(
    logits: Dual<2>,
    targets: &[u32],
    weights: Option<&[f64]>,
) -> (Dual<2>, Option<Dual<2>>) {
    let own = |x: Tensor<2>| -> FlexTensor {
        let x = x.try_into_primitive::<Flex>();
        x.unwrap_or_else(|_| panic!("logits are on the CPU")).to_contiguous()
    };
    let (x, dx) = (own(logits.primal), logits.tangent.map(own));
    let found = typed!(&x, in_place(x, dx, targets, weights));
    let dual = |[primal, tangent]: [Option<FlexTensor>; 2]| {
        let [primal, tangent] = [primal, tangent].map(|x| x.map(Tensor::from_primitive::<Flex>));
        Some(Dual::new(primal?, tangent))
    };
    let [log_probs, back] = found.map(dual);
    (log_probs.expect("there are values"), back.filter(|_| weights.is_some()))
}

/// Log-probabilities and their tangents, and what is left where logits and their tangents were.
fn in_place<E: Real>(
    _: E,
    mut x: FlexTensor,
    mut dx: Option<FlexTensor>,
    targets: &[u32],
    weights: Option<&[f64]>,
) -> [[Option<FlexTensor>; 2]; 2] {
    let (rows, n) = (x.shape()[0], x.shape()[1]);
    let [mut y, mut dy] = [vec![E::zero(); rows], vec![E::zero(); dx.iter().len() * rows]];
    let of_row = |row: usize| (targets[row] as usize, weights.map(|weights| E::of(weights[row])));
    let values = x.storage_mut::<E>().par_chunks_mut(n).zip(&mut y).enumerate();
    match &mut dx {
        None => values.for_each(|(row, (x, y))| vectorised!(E, *y = of_value(x, of_row(row)))),
        Some(dx) => {
            let tangents = dx.storage_mut::<E>().par_chunks_mut(n).zip(&mut dy);
            values.zip(tangents).for_each(|((row, (x, y)), (dx, dy))| {
                vectorised!(E, (*y, *dy) = of_tangent(x, dx, of_row(row)));
            });
        }
    }
    let column = |numbers: Vec<E>| FlexTensor::from_data(TensorData::new(numbers, [rows, 1]));
    [[Some(column(y)), dx.is_some().then(|| column(dy))], [Some(x), dx]]
}

/// `x_t - log sum exp(x)`. With g, `g (e_t - p)` takes the place of x.
#[inline(always)]
fn of_value<E: Real>(x: &mut [E], (target, g): (usize, Option<E>)) -> E {
    let chosen = x[target];
    let (shift, total) = softened(x);
    if let Some(g) = g {
        let factor = -g / total;
        for x in &mut *x {
            *x = factor * *x;
        }
        x[target] = x[target] + g;
    }
    chosen - (shift + total.ln())
}

/// The same and its tangent `x'_t - <p, x'>`. With g, `-g p (x' - <p, x'>)` takes the place of x, and `g (e_t - p)` that of x'.
#[inline(always)]
fn of_tangent<E: Real>(x: &mut [E], dx: &mut [E], (target, g): (usize, Option<E>)) -> (E, E) {
    let (chosen, along) = (x[target], dx[target]);
    let (shift, total) = softened(x);
    let mean = sum([&*x, &*dx], |[x, dx]| x * dx) / total;
    if let Some(g) = g {
        let factor = -g / total;
        for (x, dx) in x.iter_mut().zip(&mut *dx) {
            let minus_gp = factor * *x;
            *x = minus_gp * (*dx - mean);
            *dx = minus_gp;
        }
        dx[target] = dx[target] + g;
    }
    (chosen - (shift + total.ln()), along - mean)
}

/// Replaces x by `exp(x - largest)`; that and the sum.
#[inline(always)]
fn softened<E: Real>(x: &mut [E]) -> (E, E) {
    let shift = largest(x);
    for x in &mut *x {
        *x = (*x - shift).exponential();
    }
    (shift, sum([&*x], |[x]| x))
}

/// `KL(p || q)` of the distributions of two rows of logits, x and z; one number a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Divergence;

impl Divergence {
    /// Log sums of exponentials of both rows, and <p, x - z>.
    #[inline(always)]
    fn parts<E: Real>(x: &[E], z: &[E]) -> [E; 3] {
        let (of_x, of_z) = (log_sum_exp(x), log_sum_exp(z));
        [of_x, of_z, sum([x, z], |[x, z]| (x - of_x).exponential() * (x - z))]
    }
}

impl Kernel<2> for Divergence {
    fn output_len(&self, _: usize) -> usize {
        1
    }

    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x, z]: [&[E]; 2], [y]: [&mut [E]; 1]) {
        let [of_x, of_z, difference] = Self::parts(x, z);
        y[0] = difference - of_x + of_z;
    }

    /// `g p (x - z - <p, x - z>)` in x and `g (q - p)` in z.
    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [x, z]: [&[E]; 2],
        _: [&[E]; 1],
        [g]: [&[E]; 1],
        [to_x, to_z]: [&mut [E]; 2],
    ) {
        let [of_x, of_z, difference] = Self::parts(x, z);
        map([x, z], to_x, |[x, z]| g[0] * (x - of_x).exponential() * (x - z - difference));
        map([x, z], to_z, |[x, z]| g[0] * ((z - of_z).exponential() - (x - of_x).exponential()));
    }
}
