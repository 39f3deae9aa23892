//! Normalisation of a row, without weights: `x^ = s (x - mean)` with
//! `s = 1 / sqrt(mean((x - mean)^2) + eps)`, or the same without the mean (RMS).

use super::{
    Kernel, Real,
    real::{map, sum},
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
