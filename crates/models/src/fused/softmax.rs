//! `y = softmax(scale x)`, causal or not, and its tangent.

use super::{
    Kernel, Real,
    real::{largest, map, sum},
};

/// Softmax of a row times `scale`, above 0. With `causal` the rows are queries, that many to a
/// sequence, and query `q` sees the keys `..= q`; others get weight 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax {
    pub(crate) scale: f64,
    pub(crate) causal: Option<usize>,
}

impl Softmax {
    #[inline(always)]
    fn seen(self, row: usize, n: usize) -> usize {
        self.causal.map_or(n, |queries| row % queries + 1)
    }
}

impl Kernel<1> for Softmax {
    const READS_OUTPUTS: bool = true;

    #[inline(always)]
    fn forward<E: Real>(&self, row: usize, [x]: [&[E]; 1], [y]: [&mut [E]; 1]) {
        let (seen, scale) = (self.seen(row, x.len()), E::of(self.scale));
        let (x, (y, hidden)) = (&x[..seen], y.split_at_mut(seen));
        let shift = largest(x);
        map([x], y, |[x]| (scale * (x - shift)).exponential());
        let total = E::one() / sum([&*y], |[y]| y);
        for y in y.iter_mut() {
            *y = *y * total;
        }
        hidden.fill(E::zero());
    }

    /// `scale y (g - <y, g>)`.
    #[inline(always)]
    fn backward<E: Real>(
        &self,
        row: usize,
        [x]: [&[E]; 1],
        [y]: [&[E]; 1],
        [g]: [&[E]; 1],
        [to_x]: [&mut [E]; 1],
    ) {
        let (seen, scale) = (self.seen(row, x.len()), E::of(self.scale));
        let (y, g, (to_x, hidden)) = (&y[..seen], &g[..seen], to_x.split_at_mut(seen));
        let mean = sum([y, g], |[y, g]| y * g);
        map([y, g], to_x, |[y, g]| scale * y * (g - mean));
        hidden.fill(E::zero());
    }
}

/// The tangent of [`Softmax`]: `scale y (x' - <y, x'>)` of its output y and the tangent x'.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftmaxTangent(pub(crate) Softmax);

impl Kernel<2> for SoftmaxTangent {
    #[inline(always)]
    fn forward<E: Real>(&self, row: usize, [y, dx]: [&[E]; 2], [dy]: [&mut [E]; 1]) {
        let (seen, scale) = (self.0.seen(row, y.len()), E::of(self.0.scale));
        let (y, dx, (dy, hidden)) = (&y[..seen], &dx[..seen], dy.split_at_mut(seen));
        let mean = sum([y, dx], |[y, dx]| y * dx);
        map([y, dx], dy, |[y, dx]| scale * y * (dx - mean));
        hidden.fill(E::zero());
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        row: usize,
        [y, dx]: [&[E]; 2],
        _: [&[E]; 1],
        [g]: [&[E]; 1],
        [to_y, to_dx]: [&mut [E]; 2],
    ) {
        let (seen, scale) = (self.0.seen(row, y.len()), E::of(self.0.scale));
        let (y, dx, g) = (&y[..seen], &dx[..seen], &g[..seen]);
        let ((to_y, hidden_y), (to_dx, hidden_dx)) = (to_y.split_at_mut(seen), to_dx.split_at_mut(seen));
        let mean_dx = sum([y, dx], |[y, dx]| y * dx);
        let mean_g = sum([y, g], |[y, g]| y * g);
        map([dx, g], to_y, |[dx, g]| scale * (g * (dx - mean_dx) - dx * mean_g));
        map([y, g], to_dx, |[y, g]| scale * y * (g - mean_g));
        hidden_y.fill(E::zero());
        hidden_dx.fill(E::zero());
    }
}
