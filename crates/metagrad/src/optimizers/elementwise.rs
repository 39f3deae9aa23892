//! Optimizers that treat each weight by itself: a formula each way, computed over flat vectors.

use std::ops::{Add, Div, Mul, Sub};

use burn::tensor::Tensor;
use dpg_models::{Real, Sweep, can_sweep, sweep};

use super::{Back, State};

/// What a formula computes with: a number, or whole vectors on devices that have no sweeps.
pub(super) trait Number:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Add<f64, Output = Self>
    + Mul<f64, Output = Self>
    + Div<f64, Output = Self>
{
    /// Square root.
    fn root(self) -> Self;

    /// The larger of the number and `bound`.
    fn at_least(self, bound: f64) -> Self;
}

impl Number for f64 {
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn at_least(self, bound: f64) -> Self {
        self.max(bound)
    }
}

impl Number for Tensor<1> {
    fn root(self) -> Self {
        self.sqrt()
    }

    fn at_least(self, bound: f64) -> Self {
        self.clamp_min(bound)
    }
}

/// One step of an optimizer with `S` numbers of state for each weight, the weight first.
pub(super) trait Formula<const S: usize> {
    /// State after the step with gradient `g`.
    fn next<N: Number>(&self, state: [N; S], g: N) -> [N; S];

    /// Adjoint of the state before the step, without the path through the gradient, and dPhi/dg.
    fn back<N: Number>(&self, before: [N; S], g: N, adjoint: [N; S]) -> ([N; S], N);
}

/// The formulas of an optimizer's steps, numbered from 0.
pub(super) trait Steps<const S: usize>: Sync {
    /// That of one step.
    fn formula(&self, step: usize) -> impl Formula<S>;
}

/// State after the steps from number `first` on, one for each gradient.
pub(super) fn advance<O: Steps<S>, const S: usize>(
    optimizer: &O,
    first: usize,
    state: State,
    gradients: &[Tensor<1>],
) -> State {
    if can_sweep(&state.theta) {
        let gradients: Vec<_> = gradients.iter().collect();
        return State::of(sweep(&gradients, vectors::<S>(state).into(), &Advance { optimizer, first }));
    }
    let steps = (first..).zip(gradients);
    let last =
        steps.fold(vectors::<S>(state), |state, (step, g)| optimizer.formula(step).next(state, g.clone()));
    State::of(last.into())
}

/// Follows the state `start` before step `first` along `gradients`, and pulls `adjoint` back through the
/// step after them, whose gradient is `g`. The state before that step is made a chunk at a time: of it
/// theta alone is ever a whole vector.
pub(super) fn back<O: Steps<S>, const S: usize>(
    optimizer: &O,
    first: usize,
    start: &State,
    gradients: &[Tensor<1>],
    g: Tensor<1>,
    adjoint: State,
) -> Back {
    let step = first + gradients.len();
    if !can_sweep(&g) {
        let before = advance(optimizer, first, start.clone(), gradients);
        let theta = before.theta.clone();
        let (adjoint, u) = optimizer.formula(step).back(vectors::<S>(before), g, vectors::<S>(adjoint));
        return Back { theta, adjoint: State::of(adjoint.into()), u };
    }
    let read: Vec<_> = start.vectors().chain(gradients).collect();
    let mut write = vec![g];
    write.extend(vectors::<S>(adjoint));
    if !gradients.is_empty() {
        write.push(start.theta.zeros_like());
    }
    let mut written = sweep(&read, write, &Retreat { optimizer, first, kept: start.vectors().count() });
    let theta = if gradients.is_empty() { start.theta.clone() } else { written.remove(S + 1) };
    let u = written.remove(0);
    Back { theta, adjoint: State::of(written), u }
}

/// Theta and all moments of a state, zeros for those that it leaves out.
fn vectors<const S: usize>(state: State) -> [Tensor<1>; S] {
    let mut all = state.moments;
    all.insert(0, state.theta);
    while all.len() < S {
        all.push(all[0].zeros_like());
    }
    all.try_into().expect("a state has as many vectors as its optimizer")
}

/// Reads the gradients of steps, writes the state.
struct Advance<'a, O, const S: usize> {
    optimizer: &'a O,
    first: usize,
}

impl<O: Steps<S>, const S: usize> Sweep for Advance<'_, O, S> {
    #[inline(always)]
    fn chunk<E: Real>(&self, read: &[&[E]], write: &mut [&mut [E]]) {
        let state: &mut [&mut [E]; S] = write.try_into().expect("a vector for each part of the state");
        for (step, g) in (self.first..).zip(read) {
            follow(&self.optimizer.formula(step), g, state);
        }
    }
}

/// Reads a state (theta, or theta and the moments) and the gradients of the steps after it. Writes the
/// gradient of one more step, which becomes dPhi/dg, the adjoint, and theta before that step, if it has a
/// place.
struct Retreat<'a, O, const S: usize> {
    optimizer: &'a O,
    first: usize,
    kept: usize,
}

impl<O: Steps<S>, const S: usize> Sweep for Retreat<'_, O, S> {
    #[inline(always)]
    fn chunk<E: Real>(&self, read: &[&[E]], write: &mut [&mut [E]]) {
        let (kept, gradients) = read.split_at(self.kept);
        let n = kept[0].len();
        let mut state: [Vec<E>; S] = std::array::from_fn(|part| {
            kept.get(part).map_or_else(|| vec![E::zero(); n], |kept| kept.to_vec())
        });
        let mut state = state.each_mut().map(Vec::as_mut_slice);
        for (step, g) in (self.first..).zip(gradients) {
            follow(&self.optimizer.formula(step), g, &mut state);
        }
        let (g, rest) = write.split_first_mut().expect("a gradient is written");
        let (adjoint, theta) = rest.split_at_mut(S);
        let adjoint: &mut [&mut [E]; S] = adjoint.try_into().expect("an adjoint for each part of the state");
        let formula = self.optimizer.formula(self.first + gradients.len());
        for i in 0..n {
            let before = state.each_ref().map(|part| part[i].wide());
            let (back, u) = formula.back(before, g[i].wide(), adjoint.each_ref().map(|part| part[i].wide()));
            for (part, value) in adjoint.iter_mut().zip(back) {
                part[i] = E::of(value);
            }
            g[i] = E::of(u);
        }
        if let Some(theta) = theta.first_mut() {
            theta.copy_from_slice(state[0]);
        }
    }
}

/// One step of a chunk's state.
#[inline(always)]
fn follow<E: Real, const S: usize>(formula: &impl Formula<S>, g: &[E], state: &mut [&mut [E]; S]) {
    for (i, g) in g.iter().enumerate() {
        let next = formula.next(state.each_ref().map(|part| part[i].wide()), g.wide());
        for (part, value) in state.iter_mut().zip(next) {
            part[i] = E::of(value);
        }
    }
}
