//! Gradient descent with decoupled weight decay: `theta' = theta - lr (g + wd theta)`.

use burn::tensor::Tensor;
use dpg_spec::Sgd;

use super::{
    Back, Optimizer, State,
    elementwise::{self, Formula, Number, Steps},
};

impl Steps<1> for Sgd {
    #[inline(always)]
    fn formula(&self, _: usize) -> impl Formula<1> {
        Step { rate: self.learning_rate, kept: 1.0 - self.learning_rate * self.weight_decay }
    }
}

struct Step {
    rate: f64,
    /// What weight decay leaves of a weight.
    kept: f64,
}

impl Formula<1> for Step {
    #[inline(always)]
    fn next<N: Number>(&self, [theta]: [N; 1], g: N) -> [N; 1] {
        [theta * self.kept - g * self.rate]
    }

    #[inline(always)]
    fn back<N: Number>(&self, _: [N; 1], _: N, [lambda]: [N; 1]) -> ([N; 1], N) {
        ([lambda.clone() * self.kept], lambda * -self.rate)
    }
}

impl Optimizer for Sgd {
    fn moments(&self) -> usize {
        0
    }

    fn advance(&self, first: usize, state: State, gradients: &[Tensor<1>]) -> State {
        elementwise::advance(self, first, state, gradients)
    }

    fn back(
        &self,
        first: usize,
        start: &State,
        gradients: &[Tensor<1>],
        g: Tensor<1>,
        adjoint: State,
    ) -> Back {
        elementwise::back(self, first, start, gradients, g, adjoint)
    }
}
