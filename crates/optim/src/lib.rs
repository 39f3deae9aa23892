//! Optimizers: a step and its adjoint, side by side, over one flat vector and its layout.
//!
//! The settings of a kind stand in `dpg-spec`, in a file of the same name, where [`dpg_spec::optimizers`]
//! lists all kinds. What a recipe puts around an optimizer, the learning rate's schedule and what weight
//! decay acts on, is in the [`Run`] that every step is given, and so the same for all kinds.

#[macro_use]
mod elementwise;
mod clip;
#[cfg(test)]
mod conformance;
mod run;

use burn::tensor::Tensor;

pub use clip::{Clip, clip};
pub use run::Run;

/// What an optimizer carries from step to step. The same shape holds the adjoints
/// (lambda_theta, lambda_m, lambda_v) of a state on the way back.
#[derive(Clone, Debug)]
pub struct State {
    /// Weights `[n]`, or their adjoint.
    pub theta: Tensor<1>,
    /// The optimizer's own vectors `[n]` each (AdamW: m and v; SGD: none), or their adjoints. None at all
    /// stand for zeros: the state before the first step, and the adjoint that a metric gives.
    pub moments: Vec<Tensor<1>>,
}

/// How the state before a step is made again: from an earlier one, along the gradients between.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'a> {
    /// The run.
    pub run: &'a Run<'a>,
    /// Number of the step that `start` is before.
    pub first: usize,
    /// A state that was kept.
    pub start: &'a State,
    /// Gradients `[n]` of the steps between; none if `start` is the state itself.
    pub gradients: &'a [Tensor<1>],
}

/// What a step gives on the way back.
#[derive(Clone, Debug)]
pub struct Back {
    /// Weights before the step `[n]`.
    pub theta: Tensor<1>,
    /// Adjoint of the state before the step: the direct part. The path through the gradient is the
    /// caller's.
    pub adjoint: State,
    /// `u = dPhi/dg [n]`.
    pub u: Tensor<1>,
}

/// An optimizer: pure functions of its state over one flat vector, whose parts `run.layout` names.
///
/// # Contract
/// Steps made at once and one by one give the same bits: a run that keeps its gradients finds every
/// state again.
pub trait Optimizer: Send + Sync {
    /// How many vectors it carries besides theta.
    fn moments(&self) -> usize;

    /// Whether a step costs a few operations a number, so that it is quickly made again.
    fn is_elementwise(&self) -> bool;

    /// State after the steps from number `first` (from 0) on, one for each of `gradients`, `[n]` each.
    /// Vectors of `state` that nobody else holds are changed in place.
    fn advance(&self, run: &Run, first: usize, state: State, gradients: &[Tensor<1>]) -> State;

    /// Pulls `adjoint` back through the step after `replay`, of gradient `g [n]`. `adjoint` is that of the state
    /// after the step.
    fn back(&self, replay: Replay, g: Tensor<1>, adjoint: State) -> Back;

    /// Of the same, theta and u alone; what it is given stays as it is. Where `adjoint` has no moments yet, the
    /// pass along u has the room that theirs will take.
    fn direction(&self, replay: Replay, g: &Tensor<1>, adjoint: &State) -> (Tensor<1>, Tensor<1>) {
        let Back { theta, u, .. } = self.back(replay, g.clone(), adjoint.clone());
        (theta, u)
    }

    /// Of the same, the adjoint alone.
    fn adjoint(&self, replay: Replay, g: &Tensor<1>, adjoint: State) -> State {
        self.back(replay, g.clone(), adjoint).adjoint
    }

    /// State after one step.
    fn step(&self, run: &Run, step: usize, state: State, g: &Tensor<1>) -> State {
        self.advance(run, step, state, std::slice::from_ref(g))
    }
}

impl State {
    /// `theta` with moments at zero: the start of a run, or an adjoint that knows dPhi/dtheta only.
    pub fn new(theta: Tensor<1>) -> Self {
        Self { theta, moments: vec![] }
    }

    /// Theta first, then the moments.
    fn of(mut vectors: Vec<Tensor<1>>) -> Self {
        let theta = vectors.remove(0);
        Self { theta, moments: vectors }
    }

    /// Theta, and the moments that are not left out.
    pub fn vectors(&self) -> impl Iterator<Item = &Tensor<1>> {
        std::iter::once(&self.theta).chain(&self.moments)
    }
}

macro_rules! implement {
    ($($file:ident: $kind:ident($settings:ident),)*) => {
        $(mod $file;)*

        /// The optimizer that a spec names.
        pub fn of(settings: &dpg_spec::Optimizer) -> &dyn Optimizer {
            match settings {
                $(dpg_spec::Optimizer::$kind(settings) => settings,)*
            }
        }

        /// Its steps as a textbook has them, for tests.
        #[cfg(test)]
        fn reference(settings: &dpg_spec::Optimizer) -> &dyn conformance::Reference {
            match settings {
                $(dpg_spec::Optimizer::$kind(settings) => settings,)*
            }
        }
    };
}

dpg_spec::optimizers!(implement);
