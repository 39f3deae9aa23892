//! Normalisation of rows; the formulas are those of [`fused`](crate::fused).

use std::cell::OnceCell;

use burn::tensor::Tensor;

use super::{Composed, mean, mean_product, sum_of_rows};
use crate::backend::{inverse_deviations, normalised};
use crate::fused::{Norm, NormDual, Normalise};

/// A row's x^ and, for derivatives, its s.
struct Normalised<const D: usize> {
    kind: Normalise,
    x: Tensor<D>,
    hat: Tensor<D>,
    s: OnceCell<Tensor<D>>,
}

impl<const D: usize> Normalised<D> {
    fn new(kind: Normalise, x: Tensor<D>) -> Self {
        let hat = normalised(&x, kind.centred, kind.epsilon)
            .unwrap_or_else(|| kind.centre(x.clone()) * kind.inverse_deviation(&x));
        Self { kind, x, hat, s: OnceCell::new() }
    }

    fn s(&self) -> Tensor<D> {
        self.s.get_or_init(|| self.kind.inverse_deviation(&self.x)).clone()
    }

    /// `mean(v x^)`.
    fn along(&self, v: &Tensor<D>) -> Tensor<D> {
        mean_product(v, &self.hat)
    }

    /// `s (v - mean(v) - x^ mean(v x^))`: the derivative along v, and also the gradient of <v, x^>.
    fn derivative(&self, v: Tensor<D>) -> Tensor<D> {
        let along = self.along(&v);
        (self.kind.centre(v) - self.hat.clone() * along) * self.s()
    }

    /// The gradient in x of <h, derivative along x'>.
    fn second(&self, dx: &Tensor<D>, h: &Tensor<D>) -> Tensor<D> {
        let (a, b) = (self.along(h), self.along(dx));
        let (dx, centred) = (self.kind.centre(dx.clone()), self.kind.centre(h.clone()));
        let along = mean_product(h, &dx) - a.clone() * b.clone() * 3.0;
        let sum = self.hat.clone() * along + centred * b + dx * a;
        sum * (self.s() * self.s()).neg()
    }
}

impl Normalise {
    fn centre<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        if self.centred { x.clone() - mean(x) } else { x }
    }

    fn inverse_deviation<const D: usize>(self, x: &Tensor<D>) -> Tensor<D> {
        inverse_deviations(x, self.centred, self.epsilon).unwrap_or_else(|| {
            let x = self.centre(x.clone());
            (mean_product(&x, &x) + self.epsilon).sqrt().recip()
        })
    }
}

impl<const D: usize, const N: usize> Composed<D, N> for Norm {
    fn value(&self, inputs: [Tensor<D>; N]) -> [Tensor<D>; 1] {
        let norm = Normalised::new(self.0, inputs[0].clone());
        [plus(norm.hat * inputs[1].clone(), inputs.get(2))]
    }

    fn gradients(
        &self,
        needed: [bool; N],
        inputs: [Tensor<D>; N],
        [g]: [Tensor<D>; 1],
    ) -> [Option<Tensor<D>>; N] {
        let norm = Normalised::new(self.0, inputs[0].clone());
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => norm.derivative(g.clone() * inputs[1].clone()),
                1 => sum_of_rows(g.clone() * norm.hat.clone()),
                _ => sum_of_rows(g.clone()),
            })
        })
    }
}

impl<const D: usize, const N: usize> Composed<D, N, 2> for NormDual {
    fn value(&self, inputs: [Tensor<D>; N]) -> [Tensor<D>; 2] {
        let [x, dx, w, dw] = [0, 1, 2, 3].map(|input| inputs[input].clone());
        let norm = Normalised::new(self.0, x);
        let dy = norm.derivative(dx) * w.clone() + norm.hat.clone() * dw;
        [plus(norm.hat * w, inputs.get(4)), plus(dy, inputs.get(5))]
    }

    fn gradients(
        &self,
        needed: [bool; N],
        inputs: [Tensor<D>; N],
        [g, dg]: [Tensor<D>; 2],
    ) -> [Option<Tensor<D>>; N] {
        let norm = Normalised::new(self.0, inputs[0].clone());
        let (dx, w, dw) = (&inputs[1], &inputs[2], &inputs[3]);
        let (hat, h) = (norm.hat.clone(), dg.clone() * w.clone());
        std::array::from_fn(|input| {
            needed[input].then(|| match input {
                0 => {
                    let of_value = g.clone() * w.clone() + dg.clone() * dw.clone();
                    norm.second(dx, &h) + norm.derivative(of_value)
                }
                1 => norm.derivative(h.clone()),
                2 => sum_of_rows(g.clone() * hat.clone() + dg.clone() * norm.derivative(dx.clone())),
                3 => sum_of_rows(dg.clone() * hat.clone()),
                4 => sum_of_rows(g.clone()),
                _ => sum_of_rows(dg.clone()),
            })
        })
    }
}

fn plus<const D: usize>(y: Tensor<D>, bias: Option<&Tensor<D>>) -> Tensor<D> {
    match bias {
        None => y,
        Some(bias) => y + bias.clone(),
    }
}
