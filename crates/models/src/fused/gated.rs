//! What an activation lets through of other numbers, `act(a) b`. The activation is computed again where it is
//! needed, so that nothing keeps it.

use super::{Activation, Kernel, Real, real::map};

/// `act(a) b`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gated(pub(crate) Activation);

impl Kernel<2> for Gated {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, inputs: [&[E]; 2], y: &mut [E]) {
        map(inputs, y, |[a, b]| self.0.value(a) * b);
    }

    #[inline(always)]
    fn backward<E: Real>(&self, _: usize, [a, b]: [&[E]; 2], _: &[E], g: &[E], [to_a, to_b]: [&mut [E]; 2]) {
        map([a, b, g], to_a, |[a, b, g]| g * b * self.0.first(a));
        map([a, g], to_b, |[a, g]| g * self.0.value(a));
    }
}

/// The tangent of [`Gated`], `act'(a) a' b + act(a) b'`, of a, b and their tangents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatedTangent(pub(crate) Gated);

impl Kernel<4> for GatedTangent {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, inputs: [&[E]; 4], dy: &mut [E]) {
        let Self(Gated(activation)) = self;
        map(inputs, dy, |[a, b, da, db]| activation.first(a) * da * b + activation.value(a) * db);
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [a, b, da, db]: [&[E]; 4],
        _: &[E],
        g: &[E],
        [to_a, to_b, to_da, to_db]: [&mut [E]; 4],
    ) {
        let Self(Gated(activation)) = self;
        map([a], to_da, |[a]| activation.first(a));
        map([da, g, &*to_da], to_b, |[da, g, first]| g * first * da);
        map([a, b, da, db, g, &*to_da], to_a, |[a, b, da, db, g, first]| {
            g * (activation.second(a) * da * b + first * db)
        });
        map([a, g], to_db, |[a, g]| g * activation.value(a));
        for (to_da, (b, g)) in to_da.iter_mut().zip(b.iter().zip(g)) {
            *to_da = *to_da * *b * *g;
        }
    }
}
