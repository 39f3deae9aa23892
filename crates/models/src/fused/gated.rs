//! What an activation lets through of other numbers, `act(a) b`. The activation is computed again where it is
//! needed, so that nothing keeps it.

use super::{
    Activation, Kernel, Real,
    real::{change, map},
};

/// `act(a) b`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gated(pub(crate) Activation);

impl Kernel<2> for Gated {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, inputs: [&[E]; 2], [y]: [&mut [E]; 1]) {
        map(inputs, y, |[a, b]| self.0.value(a) * b);
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [a, b]: [&[E]; 2],
        _: [&[E]; 1],
        [g]: [&[E]; 1],
        [to_a, to_b]: [&mut [E]; 2],
    ) {
        // to_b serves as a row for gates before its own values
        map([a], to_b, |[a]| self.0.gate(a));
        map([a, b, g, &*to_b], to_a, |[a, b, g, gate]| g * b * self.0.first_at(a, gate));
        change(to_b, [a, g], |gate, [a, g]| g * (a * gate));
    }
}

/// [`Gated`] and its tangent, `act'(a) a' b + act(a) b'`, of a, b and their tangents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatedDual(pub(crate) Gated);

impl Kernel<4, 2> for GatedDual {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [a, b, da, db]: [&[E]; 4], [y, dy]: [&mut [E]; 2]) {
        let Self(Gated(activation)) = self;
        // y serves as a row for gates before its own values, as to_da does below
        map([a], y, |[a]| activation.gate(a));
        map([a, b, da, db, &*y], dy, |[a, b, da, db, gate]| {
            activation.first_at(a, gate) * da * b + a * gate * db
        });
        change(y, [a, b], |gate, [a, b]| a * gate * b);
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [a, b, da, db]: [&[E]; 4],
        _: [&[E]; 2],
        [g, dg]: [&[E]; 2],
        [to_a, to_b, to_da, to_db]: [&mut [E]; 4],
    ) {
        let Self(Gated(activation)) = self;
        map([a], to_da, |[a]| activation.gate(a));
        map([a, b, da, db, g, dg, &*to_da], to_a, |[a, b, da, db, g, dg, gate]| {
            let first = activation.first_at(a, gate);
            g * b * first + dg * (activation.second_at(a, gate) * da * b + first * db)
        });
        map([a, da, g, dg, &*to_da], to_b, |[a, da, g, dg, gate]| {
            g * (a * gate) + dg * activation.first_at(a, gate) * da
        });
        map([a, dg, &*to_da], to_db, |[a, dg, gate]| dg * (a * gate));
        change(to_da, [a, b, dg], |gate, [a, b, dg]| dg * activation.first_at(a, gate) * b);
    }
}
