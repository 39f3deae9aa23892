//! Activations of the form `x sigmoid(a(x))`: SiLU with a = x, and GPT-2's GELU, which is
//! `0.5 x (1 + tanh(z))` and so has `a = 2 z = k (x + 0.044715 x^3)`, `k = 2 sqrt(2 / pi)`.

use super::{Kernel, Real, real::map};

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

    /// `sigmoid(a(x))`, and a's derivatives.
    #[inline(always)]
    fn gate<E: Real>(self, x: E) -> (E, E, E) {
        let [a, slope, curvature] = self.argument(x);
        (E::one() / (E::one() + (-a).exponential()), slope, curvature)
    }

    #[inline(always)]
    pub(super) fn value<E: Real>(self, x: E) -> E {
        x * self.gate(x).0
    }

    #[inline(always)]
    pub(super) fn first<E: Real>(self, x: E) -> E {
        let (gate, slope, _) = self.gate(x);
        gate + x * gate * (E::one() - gate) * slope
    }

    #[inline(always)]
    pub(super) fn second<E: Real>(self, x: E) -> E {
        let (gate, slope, curvature) = self.gate(x);
        let two = E::of(2.0);
        let bend = (E::one() - two * gate) * slope * slope + curvature;
        gate * (E::one() - gate) * (two * slope + x * bend)
    }
}

impl Kernel<1> for Activation {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x]: [&[E]; 1], y: &mut [E]) {
        map([x], y, |[x]| self.value(x));
    }

    #[inline(always)]
    fn backward<E: Real>(&self, _: usize, [x]: [&[E]; 1], _: &[E], g: &[E], [to_x]: [&mut [E]; 1]) {
        map([x, g], to_x, |[x, g]| g * self.first(x));
    }
}

/// The tangent of [`Activation`], of x and its tangent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivationTangent(pub(crate) Activation);

impl Kernel<2> for ActivationTangent {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x, dx]: [&[E]; 2], dy: &mut [E]) {
        map([x, dx], dy, |[x, dx]| self.0.first(x) * dx);
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [x, dx]: [&[E]; 2],
        _: &[E],
        g: &[E],
        [to_x, to_dx]: [&mut [E]; 2],
    ) {
        map([x, dx, g], to_x, |[x, dx, g]| g * dx * self.0.second(x));
        map([x, g], to_dx, |[x, g]| g * self.0.first(x));
    }
}
