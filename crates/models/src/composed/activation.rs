//! Activations `x sigmoid(a(x))`; the formulas are those of [`fused`](crate::fused).

use burn::tensor::{Tensor, activation::sigmoid};

use super::Composed;
use crate::fused::{Activation, ActivationDual, Gated, GatedDual, Rows};

const CUBIC: f64 = 0.044_715;

/// `sigmoid(a)` and a's first two derivatives; `None` where they are 1 and 0.
struct Gate<const D: usize> {
    value: Tensor<D>,
    slope: Option<Tensor<D>>,
    curvature: Option<Tensor<D>>,
}

impl<const D: usize> Gate<D> {
    fn new(kind: Activation, x: &Tensor<D>) -> Self {
        match kind {
            Activation::Silu => Self { value: sigmoid(x.clone()), slope: None, curvature: None },
            Activation::GeluNew => {
                let k = 2.0 * std::f64::consts::FRAC_2_PI.sqrt();
                let square = x.clone() * x.clone();
                Self {
                    value: sigmoid(x.clone() * (square.clone() * (k * CUBIC) + k)),
                    slope: Some(square * (3.0 * k * CUBIC) + k),
                    curvature: Some(x.clone() * (6.0 * k * CUBIC)),
                }
            }
        }
    }

    /// `gate (1 - gate)`.
    fn bell(&self) -> Tensor<D> {
        self.value.clone() * (self.value.clone().neg() + 1.0)
    }

    fn first(&self, x: &Tensor<D>) -> Tensor<D> {
        let bend = x.clone() * self.bell();
        let bend = match &self.slope {
            None => bend,
            Some(slope) => bend * slope.clone(),
        };
        self.value.clone() + bend
    }

    fn second(&self, x: &Tensor<D>) -> Tensor<D> {
        let left = self.value.clone() * -2.0 + 1.0;
        let (twice, bend) = match &self.slope {
            None => (None, left),
            Some(slope) => (Some(slope.clone() * 2.0), left * slope.clone() * slope.clone()),
        };
        let bend = match &self.curvature {
            None => bend,
            Some(curvature) => bend + curvature.clone(),
        };
        let bend = x.clone() * bend;
        self.bell() * twice.map_or_else(|| bend.clone() + 2.0, |twice| twice + bend.clone())
    }
}

impl<const D: usize> Composed<D, 1> for Rows<Activation> {
    fn value(&self, [x]: [Tensor<D>; 1]) -> [Tensor<D>; 1] {
        let gate = Gate::new(self.0, &x).value;
        [x * gate]
    }

    fn gradients(&self, _: [bool; 1], [x]: [Tensor<D>; 1], [g]: [Tensor<D>; 1]) -> [Option<Tensor<D>>; 1] {
        [Some(g * Gate::new(self.0, &x).first(&x))]
    }
}

impl<const D: usize> Composed<D, 2, 2> for Rows<ActivationDual> {
    fn value(&self, [x, dx]: [Tensor<D>; 2]) -> [Tensor<D>; 2] {
        let gate = Gate::new(self.0.0, &x);
        let dy = gate.first(&x) * dx;
        [x * gate.value, dy]
    }

    fn gradients(
        &self,
        _: [bool; 2],
        [x, dx]: [Tensor<D>; 2],
        [g, dg]: [Tensor<D>; 2],
    ) -> [Option<Tensor<D>>; 2] {
        let gate = Gate::new(self.0.0, &x);
        let first = gate.first(&x);
        let to_x = g * first.clone() + dg.clone() * dx * gate.second(&x);
        [Some(to_x), Some(dg * first)]
    }
}

impl<const D: usize> Composed<D, 2> for Rows<Gated> {
    fn value(&self, [a, b]: [Tensor<D>; 2]) -> [Tensor<D>; 1] {
        let gate = Gate::new(self.0.0, &a).value;
        [a * gate * b]
    }

    fn gradients(&self, _: [bool; 2], [a, b]: [Tensor<D>; 2], [g]: [Tensor<D>; 1]) -> [Option<Tensor<D>>; 2] {
        let gate = Gate::new(self.0.0, &a);
        [Some(g.clone() * b * gate.first(&a)), Some(g * a * gate.value)]
    }
}

impl<const D: usize> Composed<D, 4, 2> for Rows<GatedDual> {
    fn value(&self, [a, b, da, db]: [Tensor<D>; 4]) -> [Tensor<D>; 2] {
        let gate = Gate::new(self.0.0.0, &a);
        let first = gate.first(&a);
        let value = a * gate.value;
        [value.clone() * b.clone(), first * da * b + value * db]
    }

    fn gradients(
        &self,
        _: [bool; 4],
        [a, b, da, db]: [Tensor<D>; 4],
        [g, dg]: [Tensor<D>; 2],
    ) -> [Option<Tensor<D>>; 4] {
        let gate = Gate::new(self.0.0.0, &a);
        let (first, second) = (gate.first(&a), gate.second(&a));
        let value = a * gate.value;
        let slope = dg.clone() * first.clone();
        let to_a =
            first * (g.clone() * b.clone() + dg.clone() * db) + dg.clone() * second * da.clone() * b.clone();
        let to_b = g * value.clone() + slope.clone() * da;
        [Some(to_a), Some(to_b), Some(slope * b), Some(dg * value)]
    }
}
