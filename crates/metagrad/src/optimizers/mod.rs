//! Optimizers of the inner run: a step and its adjoint, side by side.

mod adamw;
mod sgd;

use burn::tensor::Tensor;

/// What an optimizer carries from step to step. The same shape holds the adjoints
/// (lambda_theta, lambda_m, lambda_v) of a state on the way back.
#[derive(Clone, Debug)]
pub struct State {
    /// Weights `[n]`, or their adjoint.
    pub theta: Tensor<1>,
    /// The optimizer's own vectors `[n]` each (AdamW: m and v; SGD: none), or their adjoints.
    pub moments: Vec<Tensor<1>>,
}

/// An inner optimizer: pure functions of its state, elementwise over one flat vector.
pub trait Optimizer: Send + Sync {
    /// How many vectors it carries besides theta.
    fn moments(&self) -> usize;

    /// State after step number `step` (from 0) with gradient `g [n]`.
    fn step(&self, step: usize, state: &State, g: &Tensor<1>) -> State;

    /// Pulls `adjoint`, that of the state after the step, back through the step.
    ///
    /// Returns the adjoint of the state before it (the direct part: the path through the gradient
    /// is the caller's) and `u = dPhi/dg [n]`.
    fn adjoint(&self, step: usize, before: &State, g: &Tensor<1>, adjoint: State) -> (State, Tensor<1>);
}

impl State {
    /// `theta` with moments at zero: the start of a run, or an adjoint that knows dPhi/dtheta only.
    pub fn new(theta: Tensor<1>, optimizer: &dyn Optimizer) -> Self {
        let moments = (0..optimizer.moments()).map(|_| theta.zeros_like()).collect();
        Self { theta, moments }
    }
}

/// The optimizer that a spec names.
pub fn from_spec(spec: dpg_spec::Optimizer) -> Box<dyn Optimizer> {
    match spec {
        dpg_spec::Optimizer::Adamw(settings) => Box::new(settings),
        dpg_spec::Optimizer::Sgd(settings) => Box::new(settings),
    }
}
