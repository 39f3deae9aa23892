//! Normalisation of a row: `x^ = s (x - mean)` with `s = 1 / sqrt(mean((x - mean)^2) + eps)`, or the
//! same without the mean (RMS); with weights, `y = x^ w (+ b)`.

use std::array::from_fn;

use burn_backend::{TensorData, TensorMetadata};
use burn_flex::FlexTensor;

use super::{
    Kernel, Operation, Real,
    fill::{fill, fill_one},
    linear::add,
    real::{map, sum},
    rows::TASK,
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

/// `s (v - mean(v) - x^ mean(v x^))`: the derivative along v, and also the gradient of <v, x^>.
#[inline(always)]
fn derivative<E: Real>(norm: Normalise, x: &[E], v: &[E], output: &mut [E]) {
    let (mean, s) = norm.moments(x);
    let mean_v = norm.mean(v);
    let along = sum([x, v], |[x, v]| s * (x - mean) * v) / E::of(x.len() as f64);
    map([x, v], output, |[x, v]| s * (v - mean_v - s * (x - mean) * along));
}

impl Kernel<1> for Normalise {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x]: [&[E]; 1], y: &mut [E]) {
        let (mean, s) = self.moments(x);
        map([x], y, |[x]| s * (x - mean));
    }

    #[inline(always)]
    fn backward<E: Real>(&self, _: usize, [x]: [&[E]; 1], _: &[E], g: &[E], [to_x]: [&mut [E]; 1]) {
        derivative(*self, x, g, to_x);
    }
}

/// The tangent of [`Normalise`], of x and its tangent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormaliseTangent(pub(crate) Normalise);

impl Kernel<2> for NormaliseTangent {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x, dx]: [&[E]; 2], dy: &mut [E]) {
        derivative(self.0, x, dx, dy);
    }

    /// With a = mean(g x^), b = mean(x' x^), c = mean(g (x' - mean x')), the gradient in x is
    /// `-s^2 (x^ (c - 3 a b) + b (g - mean g) + a (x' - mean x'))`.
    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [x, dx]: [&[E]; 2],
        _: &[E],
        g: &[E],
        [to_x, to_dx]: [&mut [E]; 2],
    ) {
        let per = E::one() / E::of(x.len() as f64);
        let (mean, s) = self.0.moments(x);
        let (mean_dx, mean_g) = (self.0.mean(dx), self.0.mean(g));
        let a = sum([x, g], |[x, g]| s * (x - mean) * g) * per;
        let b = sum([x, dx], |[x, dx]| s * (x - mean) * dx) * per;
        let c = sum([dx, g], |[dx, g]| g * (dx - mean_dx)) * per;
        let along = c - E::of(3.0) * a * b;
        map([x, dx, g], to_x, |[x, dx, g]| {
            -s * s * (s * (x - mean) * along + b * (g - mean_g) + a * (dx - mean_dx))
        });
        map([x, g], to_dx, |[x, g]| s * (g - mean_g - s * (x - mean) * a));
    }
}

/// `x^ w (+ b)` of x and, in N = 2 or 3 inputs, rows w and b with all dimensions but the last 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm(pub(crate) Normalise);

/// The tangent `x^' w + x^ w' (+ b')` of x, x', w, w' and, with N = 5, b'.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormTangent(pub(crate) Normalise);

impl<const N: usize> Operation<N> for Norm {
    fn forward(&self, inputs: &[FlexTensor; N]) -> FlexTensor {
        typed!(&inputs[0], norm(self.0, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&FlexTensor>,
        g: &FlexTensor,
    ) -> [Option<FlexTensor>; N] {
        typed!(g, norm_gradients(self.0, inputs, g)).map(Some)
    }
}

impl<const N: usize> Operation<N> for NormTangent {
    fn forward(&self, inputs: &[FlexTensor; N]) -> FlexTensor {
        typed!(&inputs[0], tangent(self.0, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&FlexTensor>,
        g: &FlexTensor,
    ) -> [Option<FlexTensor>; N] {
        typed!(g, tangent_gradients(self.0, inputs, g)).map(Some)
    }
}

fn norm<E: Real, const N: usize>(_: E, this: Normalise, inputs: &[FlexTensor; N]) -> FlexTensor {
    output(
        inputs,
        #[inline(always)]
        |rows: [&[E]; 1], weights, y| {
            this.forward(0, rows, y);
            for (y, w) in y.iter_mut().zip(weights[0]) {
                *y = *y * *w;
            }
            if let Some(b) = weights.get(1) {
                add(y, b);
            }
        },
    )
}

fn tangent<E: Real, const N: usize>(_: E, this: Normalise, inputs: &[FlexTensor; N]) -> FlexTensor {
    output(
        inputs,
        #[inline(always)]
        |[x, dx]: [&[E]; 2], weights, y| {
            let (mean, s) = this.moments(x);
            derivative(this, x, dx, y);
            for (((y, x), w), dw) in y.iter_mut().zip(x).zip(weights[0]).zip(weights[1]) {
                *y = *y * *w + s * (*x - mean) * *dw;
            }
            if let Some(db) = weights.get(2) {
                add(y, db);
            }
        },
    )
}

/// Runs a function on every row: of the first `R` inputs, of the others, of the output.
fn output<E: Real, const R: usize, const N: usize>(
    inputs: &[FlexTensor; N],
    work: impl Fn([&[E]; R], &[&[E]], &mut [E]) + Sync,
) -> FlexTensor {
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let rows: [&[E]; R] = from_fn(|i| slices[i]);
    let n = slices[R].len();
    let per_task = (TASK / n).max(1);
    let output = fill_one(slices[0].len(), per_task * n, |task, output| {
        vectorised!(E, {
            for (i, output) in output.chunks_exact_mut(n).enumerate() {
                let row = task * per_task + i;
                work(rows.map(|slice| &slice[row * n..(row + 1) * n]), &slices[R..], output);
            }
        });
    });
    FlexTensor::from_data(TensorData::new(output, inputs[0].shape()))
}

fn norm_gradients<E: Real, const N: usize>(
    _: E,
    this: Normalise,
    inputs: &[FlexTensor; N],
    g: &FlexTensor,
) -> [FlexTensor; N] {
    gradients(
        inputs,
        g,
        #[inline(always)]
        |[x]: [&[E]; 1], weights, g, [to_x], sums| {
            let (mean, s) = this.moments(x);
            for ((sum, x), g) in sums[0].iter_mut().zip(x).zip(g) {
                *sum = *sum + *g * s * (*x - mean);
            }
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

/// With h = g w, the gradients of x^' at h, and those of x^ at g w'.
fn tangent_gradients<E: Real, const N: usize>(
    _: E,
    this: Normalise,
    inputs: &[FlexTensor; N],
    g: &FlexTensor,
) -> [FlexTensor; N] {
    gradients(
        inputs,
        g,
        #[inline(always)]
        |[x, dx]: [&[E]; 2], weights, g, [to_x, to_dx], sums| {
            let (w, dw) = (weights[0], weights[1]);
            let per = E::one() / E::of(x.len() as f64);
            let (mean, s) = this.moments(x);
            let mean_dx = this.mean(dx);
            // to_dx serves as a row for h, and to_x for g w' before their own values
            map([g, w], to_dx, |[g, w]| g * w);
            map([g, dw], to_x, |[g, dw]| g * dw);
            let (h, k) = (&mut *to_dx, &mut *to_x);
            let (mean_h, mean_k) = (this.mean(h), this.mean(k));
            let a = sum([x, &*h], |[x, h]| s * (x - mean) * h) * per;
            let a_k = sum([x, &*k], |[x, k]| s * (x - mean) * k) * per;
            let b = sum([x, dx], |[x, dx]| s * (x - mean) * dx) * per;
            let c = sum([dx, &*h], |[dx, h]| h * (dx - mean_dx)) * per;
            for (i, sum) in sums[0].iter_mut().enumerate() {
                let hat = s * (x[i] - mean);
                *sum = *sum + g[i] * s * (dx[i] - mean_dx - hat * b);
            }
            for (i, sum) in sums[1].iter_mut().enumerate() {
                *sum = *sum + g[i] * s * (x[i] - mean);
            }
            if let Some(sum) = sums.get_mut(2) {
                add(sum, g);
            }
            let along = c - E::of(3.0) * a * b;
            for (i, (k, h)) in k.iter_mut().zip(h).enumerate() {
                let hat = s * (x[i] - mean);
                let of_tangent = -s * s * (hat * along + b * (*h - mean_h) + a * (dx[i] - mean_dx));
                *k = of_tangent + s * (*k - mean_k - hat * a_k);
                *h = s * (*h - mean_h - hat * a);
            }
        },
    )
}

/// Runs a function on every row: of the first `R` inputs, of the others, of the output's gradient, of
/// the first gradients, and of sums that become the others. The rows of a task are fixed by their
/// size, so the sums are the same on any number of threads.
fn gradients<E: Real, const R: usize, const N: usize>(
    inputs: &[FlexTensor; N],
    g: &FlexTensor,
    work: impl Fn([&[E]; R], &[&[E]], &[E], [&mut [E]; R], &mut [Vec<E>]) + Sync,
) -> [FlexTensor; N] {
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let g = g.to_contiguous();
    let g: &[E] = slice(&g);
    let rows: [&[E]; R] = from_fn(|i| slices[i]);
    let n = slices[R].len();
    let per_task = (4 * TASK / n).max(1);
    let (of_rows, sums) = fill([slices[0].len(); R], [per_task * n; R], |task, gradients| {
        let mut sums = vec![vec![E::zero(); n]; N - R];
        vectorised!(E, {
            let last = gradients[0].len() / n;
            let mut parts = gradients.map(|gradient| gradient.chunks_exact_mut(n));
            for row in task * per_task..task * per_task + last {
                let gradients = parts.each_mut().map(|part| part.next().expect("a row of each"));
                let place = row * n..(row + 1) * n;
                let rows = rows.map(|slice| &slice[place.clone()]);
                work(rows, &slices[R..], &g[place.clone()], gradients, &mut sums);
            }
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
