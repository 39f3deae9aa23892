//! Activations of the form `x sigmoid(a(x))`: SiLU with a = x, and GPT-2's GELU, which is
//! `0.5 x (1 + tanh(z))` and so has `a = 2 z = k (x + 0.044715 x^3)`, `k = 2 sqrt(2 / pi)`.

use super::{
    Kernel, Real,
    real::{change, map},
};

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    GeluNew,
}

impl Activation {
    /// a and its first two derivatives.
    #[inline(always)]
    fn argument<E: Real>(self, x: E) -> [E; 3] {
        match self {
            Self::Silu => [x, E::one(), E::zero()],
            Self::GeluNew => {
                let k = E::of(2.0 * std::f64::consts::FRAC_2_PI.sqrt());
                let cubic = k * E::of(0.044_715);
                let square = x * x;
                [x * (k + cubic * square), k + E::of(3.0) * cubic * square, E::of(6.0) * cubic * x]
            }
        }
    }

    /// `sigmoid(a(x))`.
    #[inline(always)]
    pub(super) fn gate<E: Real>(self, x: E) -> E {
        let [a, _, _] = self.argument(x);
        E::one() / (E::one() + (-a).exponential())
    }

    #[inline(always)]
    pub(super) fn value<E: Real>(self, x: E) -> E {
        x * self.gate(x)
    }

    #[inline(always)]
    pub(super) fn first<E: Real>(self, x: E) -> E {
        self.first_at(x, self.gate(x))
    }

    /// The first derivative, given the gate.
    #[inline(always)]
    pub(super) fn first_at<E: Real>(self, x: E, gate: E) -> E {
        let [_, slope, _] = self.argument(x);
        gate + x * gate * (E::one() - gate) * slope
    }

    /// The second derivative, given the gate.
    #[inline(always)]
    pub(super) fn second_at<E: Real>(self, x: E, gate: E) -> E {
        let [_, slope, curvature] = self.argument(x);
        let two = E::of(2.0);
        let bend = (E::one() - two * gate) * slope * slope + curvature;
        gate * (E::one() - gate) * (two * slope + x * bend)
    }
}

impl Kernel<1> for Activation {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x]: [&[E]; 1], [y]: [&mut [E]; 1]) {
        map([x], y, |[x]| self.value(x));
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [x]: [&[E]; 1],
        _: [&[E]; 1],
        [g]: [&[E]; 1],
        [to_x]: [&mut [E]; 1],
    ) {
        map([x, g], to_x, |[x, g]| g * self.first(x));
    }
}

/// [`Activation`] and its tangent, of x and its tangent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivationDual(pub(crate) Activation);

impl Kernel<2, 2> for ActivationDual {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x, dx]: [&[E]; 2], [y, dy]: [&mut [E]; 2]) {
        // y serves as a row for gates before its own values, as to_dx does below
        map([x], y, |[x]| self.0.gate(x));
        map([x, dx, &*y], dy, |[x, dx, gate]| self.0.first_at(x, gate) * dx);
        change(y, [x], |gate, [x]| x * gate);
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [x, dx]: [&[E]; 2],
        _: [&[E]; 2],
        [g, dg]: [&[E]; 2],
        [to_x, to_dx]: [&mut [E]; 2],
    ) {
        map([x], to_dx, |[x]| self.0.gate(x));
        map([x, dx, g, dg, &*to_dx], to_x, |[x, dx, g, dg, gate]| {
            g * self.0.first_at(x, gate) + dg * dx * self.0.second_at(x, gate)
        });
        change(to_dx, [x, dg], |gate, [x, dg]| dg * self.0.first_at(x, gate));
    }
}
