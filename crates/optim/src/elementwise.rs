//! Optimizers that treat each weight by itself: a formula each way, computed over flat vectors.

use std::ops::{Add, Div, Mul, Range, Sub};

use burn::tensor::Tensor;
use dpg_models::{Real, Sweep, can_sweep, sweep, zeros_like};

use crate::{
    Back, Replay, Run, State,
    run::{Part, Step},
};

/// Makes an optimizer of the formulas of an [`Elementwise`] one with so many numbers for each weight.
macro_rules! elementwise {
    ($optimizer:ty, $numbers:literal) => {
        impl $crate::Optimizer for $optimizer {
            fn moments(&self) -> usize {
                $numbers - 1
            }

            fn is_elementwise(&self) -> bool {
                true
            }

            fn advance(
                &self,
                run: &$crate::Run,
                first: usize,
                state: $crate::State,
                gradients: &[burn::tensor::Tensor<1>],
            ) -> $crate::State {
                $crate::elementwise::advance::<_, $numbers>(self, run, first, state, gradients)
            }

            fn back(
                &self,
                replay: $crate::Replay,
                g: burn::tensor::Tensor<1>,
                adjoint: $crate::State,
            ) -> $crate::Back {
                $crate::elementwise::back::<_, $numbers>(self, replay, g, adjoint)
            }

            fn direction(
                &self,
                replay: $crate::Replay,
                g: &burn::tensor::Tensor<1>,
                adjoint: &$crate::State,
            ) -> (burn::tensor::Tensor<1>, burn::tensor::Tensor<1>) {
                $crate::elementwise::direction::<_, $numbers>(self, replay, g, adjoint)
            }

            fn adjoint(
                &self,
                replay: $crate::Replay,
                g: &burn::tensor::Tensor<1>,
                adjoint: $crate::State,
            ) -> $crate::State {
                $crate::elementwise::adjoint::<_, $numbers>(self, replay, g, adjoint)
            }
        }
    };
}

/// What a formula computes with: a number, or whole vectors on devices that have no sweeps.
pub(crate) trait Number:
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
pub(crate) trait Formula<const S: usize> {
    /// State after the step with gradient `g`.
    fn next<N: Number>(&self, state: [N; S], g: N) -> [N; S];

    /// Adjoint of the state before the step, without the path through the gradient, and dPhi/dg.
    fn back<N: Number>(&self, before: [N; S], g: N, adjoint: [N; S]) -> ([N; S], N);
}

/// An optimizer that treats each weight by itself: the formula of every step.
pub(crate) trait Elementwise<const S: usize>: Sync {
    /// That of one step on one part of the weights.
    fn formula(&self, step: Step) -> impl Formula<S>;
}

/// State after the steps from number `first` on, one for each gradient.
pub(crate) fn advance<O: Elementwise<S>, const S: usize>(
    optimizer: &O,
    run: &Run,
    first: usize,
    state: State,
    gradients: &[Tensor<1>],
) -> State {
    let parts = run.parts();
    if can_sweep(&state.theta) {
        let gradients: Vec<_> = gradients.iter().collect();
        let steps = Steps { optimizer, run, first, parts: &parts };
        return State::of(sweep(&gradients, vectors::<S>(state).into(), &Advance(steps)));
    }
    let follow = |state: Vec<Tensor<1>>, (step, g): (usize, &Tensor<1>)| {
        let each = |part: &Part, mut inputs: Vec<Tensor<1>>| {
            let g = inputs.pop().expect("the gradient is last");
            optimizer.formula(run.step(step, part)).next(array::<S>(inputs), g).into()
        };
        by_parts(&parts, [state, vec![g.clone()]].concat(), each)
    };
    State::of((first..).zip(gradients).fold(vectors::<S>(state).into(), follow))
}

/// Pulls `adjoint` back through the step after `replay`, whose gradient is `g`. The state before that step is
/// made a chunk at a time: of it theta alone is ever a whole vector.
pub(crate) fn back<O: Elementwise<S>, const S: usize>(
    optimizer: &O,
    replay: Replay,
    g: Tensor<1>,
    adjoint: State,
) -> Back {
    if !can_sweep(&g) {
        return composed(optimizer, replay, g, adjoint);
    }
    let mut write = vec![g];
    write.extend(vectors::<S>(adjoint));
    write.extend(place_of_theta(replay));
    let mut made = retreat(optimizer, replay, Makes::All, &[], write);
    let theta = made.drain(S + 1..).next().unwrap_or_else(|| replay.start.theta.clone());
    let u = made.remove(0);
    Back { theta, adjoint: State::of(made), u }
}

/// Theta and u of [`back`].
pub(crate) fn direction<O: Elementwise<S>, const S: usize>(
    optimizer: &O,
    replay: Replay,
    g: &Tensor<1>,
    adjoint: &State,
) -> (Tensor<1>, Tensor<1>) {
    if !can_sweep(g) {
        let Back { theta, u, .. } = composed(optimizer, replay, g.clone(), adjoint.clone());
        return (theta, u);
    }
    let given: Vec<_> = std::iter::once(g).chain(adjoint.vectors()).collect();
    let write = std::iter::once(zeros_like(g)).chain(place_of_theta(replay)).collect();
    let mut made = retreat(optimizer, replay, Makes::Direction, &given, write);
    let theta = made.drain(1..).next().unwrap_or_else(|| replay.start.theta.clone());
    (theta, made.remove(0))
}

/// The adjoint of [`back`].
pub(crate) fn adjoint<O: Elementwise<S>, const S: usize>(
    optimizer: &O,
    replay: Replay,
    g: &Tensor<1>,
    adjoint: State,
) -> State {
    if !can_sweep(g) {
        return composed(optimizer, replay, g.clone(), adjoint).adjoint;
    }
    let write = vectors::<S>(adjoint).into();
    State::of(retreat(optimizer, replay, Makes::Adjoint, &[g], write))
}

/// Where theta goes, if it is not that of the state that was kept.
fn place_of_theta(replay: Replay) -> Option<Tensor<1>> {
    (!replay.gradients.is_empty()).then(|| zeros_like(&replay.start.theta))
}

fn retreat<O: Elementwise<S>, const S: usize>(
    optimizer: &O,
    Replay { run, first, start, gradients }: Replay,
    makes: Makes,
    given: &[&Tensor<1>],
    write: Vec<Tensor<1>>,
) -> Vec<Tensor<1>> {
    let read: Vec<_> = start.vectors().chain(gradients).chain(given.iter().copied()).collect();
    let steps = Steps { optimizer, run, first, parts: &run.parts() };
    let retreat = Retreat { steps, kept: start.vectors().count(), between: gradients.len(), makes };
    sweep(&read, write, &retreat)
}

/// [`back`] where nothing sweeps.
fn composed<O: Elementwise<S>, const S: usize>(
    optimizer: &O,
    Replay { run, first, start, gradients }: Replay,
    g: Tensor<1>,
    adjoint: State,
) -> Back {
    let before = advance(optimizer, run, first, start.clone(), gradients);
    let theta = before.theta.clone();
    let each = |part: &Part, inputs: Vec<Tensor<1>>| {
        let mut inputs = inputs.into_iter();
        let before = array::<S>(inputs.by_ref().take(S).collect());
        let adjoint = array::<S>(inputs.by_ref().take(S).collect());
        let g = inputs.next().expect("the gradient is last");
        let step = run.step(first + gradients.len(), part);
        let (adjoint, u) = optimizer.formula(step).back(before, g, adjoint);
        [adjoint.to_vec(), vec![u]].concat()
    };
    let inputs = [vectors::<S>(before).to_vec(), vectors::<S>(adjoint).to_vec(), vec![g]].concat();
    let mut adjoint = by_parts(&run.parts(), inputs, each);
    let u = adjoint.pop().expect("dPhi/dg is last");
    Back { theta, adjoint: State::of(adjoint), u }
}

/// Theta and all moments of a state, zeros for those that it leaves out.
pub(crate) fn vectors<const S: usize>(state: State) -> [Tensor<1>; S] {
    let mut all = state.moments;
    all.insert(0, state.theta);
    while all.len() < S {
        all.push(zeros_like(&all[0]));
    }
    array(all)
}

fn array<const S: usize>(vectors: Vec<Tensor<1>>) -> [Tensor<1>; S] {
    vectors.try_into().expect("a state has as many vectors as its optimizer")
}

/// Vectors `[n]` that are computed part by part from others.
fn by_parts(
    parts: &[Part],
    inputs: Vec<Tensor<1>>,
    each: impl Fn(&Part, Vec<Tensor<1>>) -> Vec<Tensor<1>>,
) -> Vec<Tensor<1>> {
    if let [part] = parts {
        return each(part, inputs);
    }
    let of = |part: &Part| inputs.iter().map(|vector| vector.clone().slice(part.range.clone())).collect();
    let outputs: Vec<_> = parts.iter().map(|part| each(part, of(part))).collect();
    let whole = |i: usize| Tensor::cat(outputs.iter().map(|part| part[i].clone()).collect(), 0);
    (0..outputs[0].len()).map(whole).collect()
}

/// Steps from number `first` on.
struct Steps<'a, O, const S: usize> {
    optimizer: &'a O,
    run: &'a Run<'a>,
    first: usize,
    parts: &'a [Part],
}

impl<O: Elementwise<S>, const S: usize> Steps<'_, O, S> {
    /// The formula of the step `after` others.
    #[inline(always)]
    fn formula(&self, after: usize, part: &Part) -> impl Formula<S> {
        self.optimizer.formula(self.run.step(self.first + after, part))
    }

    /// The parts that a chunk of `n` elements from element `first` on has a share of, each with its range in
    /// the chunk.
    #[inline(always)]
    fn parts(&self, first: usize, n: usize) -> impl Iterator<Item = (&Part, Range<usize>)> {
        let reached = self.parts.partition_point(move |part| part.range.end <= first);
        let here = self.parts[reached..].iter().take_while(move |part| part.range.start < first + n);
        here.map(move |part| {
            let range = part.range.start.max(first)..part.range.end.min(first + n);
            (part, range.start - first..range.end - first)
        })
    }
}

/// Reads the gradients of steps, writes the state.
struct Advance<'a, O, const S: usize>(Steps<'a, O, S>);

impl<O: Elementwise<S>, const S: usize> Sweep for Advance<'_, O, S> {
    #[inline(always)]
    fn chunk<E: Real>(&self, first: usize, read: &[&[E]], write: &mut [&mut [E]]) {
        let state: &mut [&mut [E]; S] = write.try_into().expect("a vector for each part of the state");
        for (part, range) in self.0.parts(first, state[0].len()) {
            let mut state = state.each_mut().map(|vector| &mut vector[range.clone()]);
            for (after, g) in read.iter().enumerate() {
                follow(&self.0.formula(after, part), &g[range.clone()], &mut state);
            }
        }
    }
}

/// What a retreat makes. Theta has a place after the rest if it is made again.
#[derive(Clone, Copy)]
enum Makes {
    /// dPhi/dg in the place of the gradient, the adjoint in the place of that after the step, and theta.
    All,
    /// dPhi/dg and theta, of a gradient and an adjoint that are read.
    Direction,
    /// The adjoint in the place of that after the step, of a gradient that is read.
    Adjoint,
}

/// Reads a state (theta, or theta and the moments), the gradients of the steps after it, and what is given of
/// one more step.
struct Retreat<'a, O, const S: usize> {
    steps: Steps<'a, O, S>,
    kept: usize,
    between: usize,
    makes: Makes,
}

impl<O: Elementwise<S>, const S: usize> Sweep for Retreat<'_, O, S> {
    #[inline(always)]
    fn chunk<E: Real>(&self, first: usize, read: &[&[E]], write: &mut [&mut [E]]) {
        let (kept, read) = read.split_at(self.kept);
        let (gradients, given) = read.split_at(self.between);
        let n = kept[0].len();
        let copy =
            |vector: Option<&&[E]>| vector.map_or_else(|| vec![E::zero(); n], |vector| vector.to_vec());
        let mut state: [Vec<E>; S] = std::array::from_fn(|vector| copy(kept.get(vector)));
        let (mut g, mut adjoint): (Vec<E>, [Vec<E>; S]) = match self.makes {
            Makes::All => (write[0].to_vec(), std::array::from_fn(|vector| write[vector + 1].to_vec())),
            Makes::Direction => {
                (given[0].to_vec(), std::array::from_fn(|vector| copy(given.get(vector + 1))))
            }
            Makes::Adjoint => (given[0].to_vec(), std::array::from_fn(|vector| write[vector].to_vec())),
        };
        for (part, range) in self.steps.parts(first, n) {
            let mut state = state.each_mut().map(|vector| &mut vector[range.clone()]);
            for (after, g) in gradients.iter().enumerate() {
                follow(&self.steps.formula(after, part), &g[range.clone()], &mut state);
            }
            let formula = self.steps.formula(gradients.len(), part);
            let mut adjoint = adjoint.each_mut().map(|vector| &mut vector[range.clone()]);
            for (i, g) in g[range.clone()].iter_mut().enumerate() {
                let before = state.each_ref().map(|vector| vector[i].wide());
                let after = adjoint.each_ref().map(|vector| vector[i].wide());
                let (back, u) = formula.back(before, g.wide(), after);
                for (vector, value) in adjoint.iter_mut().zip(back) {
                    vector[i] = E::of(value);
                }
                *g = E::of(u);
            }
        }
        let theta = &state[..1];
        let made: Vec<_> = match self.makes {
            Makes::All => std::iter::once(&g).chain(&adjoint).chain(theta).collect(),
            Makes::Direction => std::iter::once(&g).chain(theta).collect(),
            Makes::Adjoint => adjoint.iter().collect(),
        };
        for (place, made) in write.iter_mut().zip(made) {
            place.copy_from_slice(made);
        }
    }
}

/// One step of a range's state.
#[inline(always)]
fn follow<E: Real, const S: usize>(formula: &impl Formula<S>, g: &[E], state: &mut [&mut [E]; S]) {
    for (i, g) in g.iter().enumerate() {
        let next = formula.next(state.each_ref().map(|vector| vector[i].wide()), g.wide());
        for (vector, value) in state.iter_mut().zip(next) {
            vector[i] = E::of(value);
        }
    }
}
