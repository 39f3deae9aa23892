//! Gradient descent with decoupled weight decay: `theta' = theta - lr (g + wd theta)`.

use burn::tensor::Tensor;
use dpg_spec::Sgd;

use super::{Optimizer, State};

impl Optimizer for Sgd {
    fn moments(&self) -> usize {
        0
    }

    fn step(&self, _step: usize, state: &State, g: &Tensor<1>) -> State {
        let kept = 1.0 - self.learning_rate * self.weight_decay;
        State { theta: state.theta.clone() * kept - g.clone() * self.learning_rate, moments: vec![] }
    }

    fn adjoint(&self, _step: usize, _before: &State, _g: &Tensor<1>, adjoint: State) -> (State, Tensor<1>) {
        let u = adjoint.theta.clone() * -self.learning_rate;
        let kept = 1.0 - self.learning_rate * self.weight_decay;
        (State { theta: adjoint.theta * kept, moments: vec![] }, u)
    }
}
