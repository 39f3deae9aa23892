//! Rotary positions: the pairs `(x_i, x_{i + dim/2})` of a head turned by angles of its position.

use std::sync::Arc;

use super::{Kernel, Real};

/// Rotates the rows of `[batch, seq, heads, dim]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// Heads at a position.
    pub(crate) heads: usize,
    /// Cosines and sines of the positions' angles, `dim / 2` a position; the positions of one row of
    /// the batch, or of all.
    pub(crate) cos: Arc<[f64]>,
    pub(crate) sin: Arc<[f64]>,
}

impl Rotation {
    /// Turns `x`; `direction` -1 turns it back.
    #[inline(always)]
    fn turn<E: Real>(&self, row: usize, x: &[E], y: &mut [E], direction: E) {
        let half = x.len() / 2;
        let first = row / self.heads * half % self.cos.len();
        let (cos, sin) = (&self.cos[first..first + half], &self.sin[first..first + half]);
        let ((a, b), (to_a, to_b)) = (x.split_at(half), y.split_at_mut(half));
        for i in 0..half {
            let (cos, sin) = (E::of(cos[i]), direction * E::of(sin[i]));
            to_a[i] = a[i] * cos - b[i] * sin;
            to_b[i] = b[i] * cos + a[i] * sin;
        }
    }
}

impl Kernel<1> for Rotation {
    #[inline(always)]
    fn forward<E: Real>(&self, row: usize, [x]: [&[E]; 1], [y]: [&mut [E]; 1]) {
        self.turn(row, x, y, E::one());
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        row: usize,
        _: [&[E]; 1],
        _: [&[E]; 1],
        [g]: [&[E]; 1],
        [to_x]: [&mut [E]; 1],
    ) {
        self.turn(row, g, to_x, -E::one());
    }
}
