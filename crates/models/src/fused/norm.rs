//! Normalisation of a row: `x^ = s (x - mean)` with `s = 1 / sqrt(mean((x - mean)^2) + eps)`, or the
//! same without the mean (RMS); with weights, `y = x^ w (+ b)`.

use std::array::from_fn;

use burn_backend::{TensorData, TensorMetadata};
use burn_flex::FlexTensor;

use super::{
    Operation, Real,
    fill::fill,
    linear::add,
    real::{change, map, sum},
    rows::{TASK, each_row},
    slice,
};

/// Normalises a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normalise {
    /// Layer norm; otherwise RMS norm.
    pub(crate) centred: bool,
    pub(crate) epsilon: f64,
}

impl Normalise {
    #[inline(always)]
    fn mean<E: Real>(self, x: &[E]) -> E {
        if self.centred { sum([x], |[x]| x) / E::of(x.len() as f64) } else { E::zero() }
    }

    /// Mean and s of a row.
    #[inline(always)]
    fn moments<E: Real>(self, x: &[E]) -> (E, E) {
        let mean = self.mean(x);
        let variance = sum([x], |[x]| (x - mean) * (x - mean)) / E::of(x.len() as f64);
        (mean, E::one() / (variance + E::of(self.epsilon)).sqrt())
    }
}

/// The derivative of x^ along v, `s (v - mean(v) - x^ mean(v x^))`.
#[inline(always)]
fn derivative<E: Real>(norm: Normalise, (mean, s): (E, E), x: &[E], v: &[E], output: &mut [E]) {
    let mean_v = norm.mean(v);
    let along = sum([x, v], |[x, v]| s * (x - mean) * v) / E::of(x.len() as f64);
    map([x, v], output, |[x, v]| s * (v - mean_v - s * (x - mean) * along));
}

/// `x^ w (+ b)` of x and, in N = 2 or 3 inputs, rows w and b with all dimensions but the last 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm(pub(crate) Normalise);

/// [`Norm`] and its tangent `x^' w + x^ w' (+ b')`, of x, x', w, w' and, with N = 5 or 6, b and perhaps b'.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormDual(pub(crate) Normalise);

impl<const N: usize> Operation<N> for Norm {
    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; 1] {
        typed!(&inputs[0], norm(self.0, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&[FlexTensor; 1]>,
        gradients: [&FlexTensor; 1],
    ) -> [Option<FlexTensor>; N] {
        typed!(gradients[0], norm_gradients(self.0, inputs, gradients)).map(Some)
    }
}

impl<const N: usize> Operation<N, 2> for NormDual {
    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; 2] {
        typed!(&inputs[0], dual(self.0, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&[FlexTensor; 2]>,
        gradients: [&FlexTensor; 2],
    ) -> [Option<FlexTensor>; N] {
        typed!(gradients[0], dual_gradients(self.0, inputs, gradients)).map(Some)
    }
}

fn norm<E: Real, const N: usize>(_: E, this: Normalise, inputs: &[FlexTensor; N]) -> [FlexTensor; 1] {
    outputs(
        inputs,
        #[inline(always)]
        |[x]: [&[E]; 1], weights, [y]| {
            let (mean, s) = this.moments(x);
            map([x, weights[0]], y, |[x, w]| s * (x - mean) * w);
            if let Some(b) = weights.get(1) {
                add(y, b);
            }
        },
    )
}

fn dual<E: Real, const N: usize>(_: E, this: Normalise, inputs: &[FlexTensor; N]) -> [FlexTensor; 2] {
    outputs(
        inputs,
        #[inline(always)]
        |[x, dx]: [&[E]; 2], weights, [y, dy]| {
            let (w, dw) = (weights[0], weights[1]);
            let (mean, s) = this.moments(x);
            map([x, w], y, |[x, w]| s * (x - mean) * w);
            derivative(this, (mean, s), x, dx, dy);
            change(dy, [x, w, dw], |dy, [x, w, dw]| dy * w + s * (x - mean) * dw);
            for (output, bias) in [y, dy].into_iter().zip(&weights[2..]) {
                add(output, bias);
            }
        },
    )
}

/// Runs a function on every row: of the first `R` inputs, of the others, of the outputs.
fn outputs<E: Real, const R: usize, const N: usize, const M: usize>(
    inputs: &[FlexTensor; N],
    work: impl Fn([&[E]; R], &[&[E]], [&mut [E]; M]) + Sync,
) -> [FlexTensor; M] {
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let rows: [&[E]; R] = from_fn(|i| slices[i]);
    let n = slices[R].len();
    let per_task = (TASK / n).max(1);
    let (outputs, _) = fill([slices[0].len(); M], [per_task * n; M], |task, outputs| {
        vectorised!(E, {
            let first = task * per_task;
            each_row(
                outputs,
                n,
                #[inline(always)]
                |row, outputs| {
                    let place = (first + row) * n..(first + row + 1) * n;
                    work(rows.map(|slice| &slice[place.clone()]), &slices[R..], outputs);
                },
            );
        });
    });
    outputs.map(|output| FlexTensor::from_data(TensorData::new(output, inputs[0].shape())))
}

fn norm_gradients<E: Real, const N: usize>(
    _: E,
    this: Normalise,
    inputs: &[FlexTensor; N],
    gradients: [&FlexTensor; 1],
) -> [FlexTensor; N] {
    to_inputs(
        inputs,
        gradients,
        #[inline(always)]
        |[x]: [&[E]; 1], weights, [g], [to_x], sums| {
            let (mean, s) = this.moments(x);
            change(&mut sums[0], [x, g], |sum, [x, g]| sum + g * s * (x - mean));
            if let Some(sum) = sums.get_mut(1) {
                add(sum, g);
            }
            let w = weights[0];
            let per = E::one() / E::of(x.len() as f64);
            let mean_h = if this.centred { sum([g, w], |[g, w]| g * w) * per } else { E::zero() };
            let along = sum([x, g, w], |[x, g, w]| s * (x - mean) * g * w) * per;
            map([x, g, w], to_x, |[x, g, w]| s * (g * w - mean_h - s * (x - mean) * along));
        },
    )
}

/// With g and g' the gradients of y and y': those of x^ at `k = g w + g' w'`, and of x^' at `h = g' w`. With
/// a = mean(h x^), b = mean(x' x^), c = mean(h (x' - mean x')), the latter's gradient in x is
/// `-s^2 (x^ (c - 3 a b) + b (h - mean h) + a (x' - mean x'))`.
fn dual_gradients<E: Real, const N: usize>(
    _: E,
    this: Normalise,
    inputs: &[FlexTensor; N],
    gradients: [&FlexTensor; 2],
) -> [FlexTensor; N] {
    to_inputs(
        inputs,
        gradients,
        #[inline(always)]
        |[x, dx]: [&[E]; 2], weights, [g, dg], [to_x, to_dx], sums| {
            let (w, dw) = (weights[0], weights[1]);
            let per = E::one() / E::of(x.len() as f64);
            let (mean, s) = this.moments(x);
            let mean_dx = this.mean(dx);
            let b = sum([x, dx], |[x, dx]| s * (x - mean) * dx) * per;
            change(&mut sums[0], [x, dx, g, dg], |sum, [x, dx, g, dg]| {
                let hat = s * (x - mean);
                sum + g * hat + dg * s * (dx - mean_dx - hat * b)
            });
            change(&mut sums[1], [x, dg], |sum, [x, dg]| sum + dg * s * (x - mean));
            for (sum, g) in sums[2..].iter_mut().zip([g, dg]) {
                add(sum, g);
            }
            // where k and h are, their gradients come
            let [k, h] = [to_x, to_dx];
            map([g, dg, w, dw], k, |[g, dg, w, dw]| g * w + dg * dw);
            map([dg, w], h, |[dg, w]| dg * w);
            let (mean_h, mean_k) = (this.mean(h), this.mean(k));
            let a = sum([x, &*h], |[x, h]| s * (x - mean) * h) * per;
            let a_k = sum([x, &*k], |[x, k]| s * (x - mean) * k) * per;
            let c = sum([dx, &*h], |[dx, h]| h * (dx - mean_dx)) * per;
            let along = c - E::of(3.0) * a * b;
            change(k, [x, dx, &*h], |k, [x, dx, h]| {
                let hat = s * (x - mean);
                let of_tangent = -s * s * (hat * along + b * (h - mean_h) + a * (dx - mean_dx));
                of_tangent + s * (k - mean_k - hat * a_k)
            });
            change(h, [x], |h, [x]| s * (h - mean_h - s * (x - mean) * a));
        },
    )
}

/// Runs a function on every row: of the first `R` inputs, of the others, of the outputs' gradients, of the first inputs'
/// gradients, and of sums that become the others. The rows of a task are fixed by their size, so the sums are the same on any
/// number of threads.
fn to_inputs<E: Real, const R: usize, const N: usize, const M: usize>(
    inputs: &[FlexTensor; N],
    gradients: [&FlexTensor; M],
    work: impl Fn([&[E]; R], &[&[E]], [&[E]; M], [&mut [E]; R], &mut [Vec<E>]) + Sync,
) -> [FlexTensor; N] {
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let gradients = gradients.map(FlexTensor::to_contiguous);
    let gradients = gradients.each_ref().map(slice::<E>);
    let rows: [&[E]; R] = from_fn(|i| slices[i]);
    let n = slices[R].len();
    let per_task = (4 * TASK / n).max(1);
    let (of_rows, sums) = fill([slices[0].len(); R], [per_task * n; R], |task, of_rows| {
        let mut sums = vec![vec![E::zero(); n]; N - R];
        vectorised!(E, {
            let first = task * per_task;
            each_row(
                of_rows,
                n,
                #[inline(always)]
                |row, of_rows| {
                    let place = (first + row) * n..(first + row + 1) * n;
                    let rows = rows.map(|slice| &slice[place.clone()]);
                    let gradients = gradients.map(|slice| &slice[place.clone()]);
                    work(rows, &slices[R..], gradients, of_rows, &mut sums);
                },
            );
        });
        sums
    });
    let mut of_rows = of_rows.into_iter();
    from_fn(|input| {
        let gradient = if input < R {
            of_rows.next().expect("a gradient for each")
        } else {
            let mut total = vec![E::zero(); n];
            for sums in &sums {
                add(&mut total, &sums[input - R]);
            }
            total
        };
        FlexTensor::from_data(TensorData::new(gradient, inputs[input].shape()))
    })
}
