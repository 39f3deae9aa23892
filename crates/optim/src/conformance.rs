//! What every listed optimizer must do: follow its textbook, have the adjoint that finite differences give,
//! and not change a bit by how its vectors and steps are cut.

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{Layout, keyed_rng};
use dpg_spec::{AdamW, DecayOn, LrSchedule};
use rand::RngExt;

use crate::{Optimizer, Replay, Run, State, of, reference};

/// An optimizer's steps written as plainly as they can be, in f64.
pub(crate) trait Reference {
    /// Changes theta by a step for each gradient, from the first step of the run on.
    fn steps(&self, run: &Run, theta: &mut [f64], gradients: &[Vec<f64>]);
}

/// Whether weight decay acts on each weight.
pub(crate) fn decays(run: &Run) -> Vec<bool> {
    let of_param = |param: &dpg_models::Param| {
        let decays = run.decay_on == DecayOn::All || param.shape.len() > 1;
        std::iter::repeat_n(decays, param.len())
    };
    run.layout.params().iter().flat_map(of_param).collect()
}

/// Matrices and vectors, the last one such that they are `n` numbers in all.
fn layout(n: usize) -> Layout {
    let mut layout = Layout::default();
    layout.push("norm", &[1], false);
    layout.push_linear("wide", [2, 3], false);
    layout.push_linear("tall", [3, 2], true);
    layout.push("bias", &[1], false);
    layout.push("rest", &[n - 14, 1], false);
    layout
}

/// Every kind in each surrounding: its settings, the optimizer, the run.
fn each(n: usize, mut check: impl FnMut(dpg_spec::Optimizer, &dyn Optimizer, &Run)) {
    let layout = layout(n);
    let constant = Run::constant(&layout);
    let runs = [
        constant,
        Run { decay_on: DecayOn::Matrices, ..constant },
        Run { schedule: LrSchedule::Linear, warmup: 2, steps: 5, ..constant },
        Run { schedule: LrSchedule::Cosine, decay_on: DecayOn::Matrices, warmup: 0, steps: 6, ..constant },
    ];
    let mut settings = dpg_spec::Optimizer::examples();
    // where the epsilons matter less, and where they rule
    let adamw = AdamW { learning_rate: 1e-2, eps_root: 1e-4, weight_decay: 0.1, ..AdamW::default() };
    settings.push(dpg_spec::Optimizer::Adamw(adamw));
    settings.push(dpg_spec::Optimizer::Adamw(AdamW { betas: [0.0, 0.999], eps: 1e-3, ..adamw }));
    for settings in settings {
        for run in &runs {
            check(settings, of(&settings), run);
        }
    }
}

fn tensor(values: &[f64]) -> Tensor<1> {
    Tensor::from_data(values, (&Device::flex(), DType::F64))
}

fn values(tensor: &Tensor<1>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn parts(state: &State) -> Vec<Vec<f64>> {
    state.vectors().map(values).collect()
}

/// Numbers between two bounds.
struct Random(rand_chacha::ChaCha8Rng);

impl Random {
    fn new(key: u64) -> Self {
        Self(keyed_rng([key, 0, 0, 0]))
    }

    fn numbers(&mut self, n: usize, low: f64, high: f64) -> Vec<f64> {
        (0..n).map(|_| self.0.random_range(low..high)).collect()
    }

    /// A gradient with no entry near 0, where a difference would reach across it.
    fn gradient(&mut self, n: usize) -> Tensor<1> {
        let sizes = self.numbers(n, 0.3, 1.0);
        tensor(&sizes.iter().map(|size| if self.0.random() { *size } else { -size }).collect::<Vec<_>>())
    }

    /// A state that three steps lead to, so that its moments are some that the optimizer can have.
    fn state(&mut self, optimizer: &dyn Optimizer, run: &Run) -> State {
        let n = run.layout.len();
        let start = State::new(tensor(&self.numbers(n, -1.0, 1.0)));
        optimizer.advance(run, 0, start, &[self.gradient(n), self.gradient(n), self.gradient(n)])
    }
}

#[test]
fn steps_are_those_of_the_textbook() {
    const N: usize = 19;
    let mut random = Random::new(8);
    each(N, |settings, optimizer, run| {
        let start = random.numbers(N, -1.0, 1.0);
        let gradients: Vec<Vec<f64>> = (0..5).map(|_| random.numbers(N, -0.1, 0.1)).collect();
        let mut expected = start.clone();
        reference(&settings).steps(run, &mut expected, &gradients);
        let gradients: Vec<_> = gradients.iter().map(|g| tensor(g)).collect();
        let found = optimizer.advance(run, 0, State::new(tensor(&start)), &gradients);
        assert_eq!(found.moments.len(), optimizer.moments(), "{settings:?}");
        for (found, expected) in values(&found.theta).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-12 * expected.abs().max(1e-3), "{settings:?}, {run:?}");
        }
        assert_ne!(start, expected, "{settings:?} does not move");
    });
}

/// `<c, step(x)>` for the cotangent `c` has the gradient that the adjoint returns, in every entry of
/// theta, the moments and g.
#[test]
fn adjoints_equal_finite_differences() {
    const N: usize = 19;
    const H: f64 = 1e-6;
    let mut random = Random::new(9);
    each(N, |settings, optimizer, run| {
        let k = optimizer.moments();
        for step in [0, 3] {
            // parts 0: theta, 1..=k: moments, k + 1: the gradient
            let mut at = parts(&random.state(optimizer, run));
            at.push(values(&random.gradient(N)));
            let cotangents: Vec<Vec<f64>> = (0..=k).map(|_| random.numbers(N, -1.0, 1.0)).collect();
            let state_of =
                |parts: &[Vec<f64>]| State::of(parts[..=k].iter().map(|part| tensor(part)).collect());
            let value = |at: &[Vec<f64>]| -> f64 {
                let after = optimizer.step(run, step, state_of(at), &tensor(&at[k + 1]));
                parts(&after).concat().iter().zip(cotangents.concat()).map(|(a, b)| a * b).sum()
            };
            let replay = Replay { run, first: step, start: &state_of(&at), gradients: &[] };
            let back = optimizer.back(replay, tensor(&at[k + 1]), state_of(&cotangents));
            let mut adjoints = parts(&back.adjoint);
            adjoints.push(values(&back.u));
            for (part, adjoint) in adjoints.iter().enumerate() {
                for (entry, exact) in adjoint.iter().enumerate() {
                    let moved = |change: f64| {
                        let mut at = at.clone();
                        at[part][entry] += change;
                        value(&at)
                    };
                    // of fourth order: a moment may be little more than H
                    let difference =
                        (8.0 * (moved(H) - moved(-H)) - (moved(2.0 * H) - moved(-2.0 * H))) / (12.0 * H);
                    let error = (exact - difference).abs();
                    assert!(
                        error < 1e-6 * exact.abs().max(1e-3),
                        "{settings:?}, {run:?}, step {step}, part {part}: {exact:e} against {difference:e}"
                    );
                }
            }
        }
    });
}

/// Tracked vectors are computed by tensor operations, as on other devices than the CPU.
#[test]
fn one_pass_equals_composed_operations() {
    const N: usize = 19;
    let mut random = Random::new(10);
    each(N, |settings, optimizer, run| {
        let k = optimizer.moments();
        let state_of = |parts: Vec<Vec<f64>>| State::of(parts.iter().map(|part| tensor(part)).collect());
        let before = random.state(optimizer, run);
        let after = state_of((0..=k).map(|_| random.numbers(N, -1.0, 1.0)).collect());
        let g = random.gradient(N);
        let tracked =
            |state: &State| State::of(state.vectors().map(|part| part.clone().autodiff()).collect());
        for step in [0, 3] {
            let both = |before: &State, g: &Tensor<1>, after: State| {
                let replay = Replay { run, first: step, start: before, gradients: &[] };
                let back = optimizer.back(replay, g.clone(), after);
                let stepped = optimizer.step(run, step, before.clone(), g);
                [parts(&stepped).concat(), parts(&back.adjoint).concat(), values(&back.u)].concat()
            };
            let one_pass = both(&before, &g, after.clone());
            let composed = both(&tracked(&before), &g.clone().autodiff(), tracked(&after));
            for (a, b) in one_pass.iter().zip(&composed) {
                assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-12), "{settings:?}, {run:?}: {a:e}, {b:e}");
            }
        }
    });
}

/// The walk back finds a state again from the first one and the gradients, to the last bit, and leaves what
/// it was given as it was.
#[test]
fn steps_made_again_are_the_same() {
    // more than one chunk
    const N: usize = 40_000;
    let mut random = Random::new(11);
    for dtype in [DType::F32, DType::F64] {
        each(N, |settings, optimizer, run| {
            let mut vector = || tensor(&random.numbers(N, -1.0, 1.0)).cast(dtype);
            let (theta, gradients) = (vector(), [vector(), vector(), vector()]);
            let first = values(&theta);
            let mut states = vec![State::new(theta)];
            for (t, g) in gradients.iter().enumerate() {
                states.push(optimizer.step(run, t, states[t].clone(), g));
            }
            let again = optimizer.advance(run, 0, states[0].clone(), &gradients);
            assert_eq!(parts(&again), parts(&states[3]), "{settings:?}");
            let adjoint = State::new(vector());
            let given = values(&adjoint.theta);
            let [g0, g1, g2] = gradients;
            let from_first = Replay { run, first: 0, start: &states[0], gradients: &[g0, g1] };
            let from_last = Replay { run, first: 2, start: &states[2], gradients: &[] };
            let back = optimizer.back(from_last, g2.clone(), adjoint.clone());
            let whole = optimizer.back(from_first, g2.clone(), adjoint.clone());
            let (theta, u) = optimizer.direction(from_first, &g2, &adjoint);
            let before = optimizer.adjoint(from_first, &g2, adjoint.clone());
            for theta in [&back.theta, &whole.theta, &theta] {
                assert_eq!(values(theta), values(&states[2].theta), "{settings:?}");
            }
            for u in [&whole.u, &u] {
                assert_eq!(values(u), values(&back.u), "{settings:?}");
            }
            for before in [&whole.adjoint, &before] {
                assert_eq!(parts(before), parts(&back.adjoint), "{settings:?}");
            }
            assert_eq!(values(&states[0].theta), first);
            assert_eq!(values(&adjoint.theta), given);
        });
    }
}

/// Where nothing has come yet, roots are 0: the adjoint must stay finite.
#[test]
fn a_gradient_of_zero_has_a_finite_adjoint() {
    const N: usize = 19;
    each(N, |settings, _, run| {
        let bare = settings.settings().without_eps_root().unwrap_or(settings);
        for dtype in [DType::F32, DType::F64] {
            let zero = Tensor::<1>::zeros([N], (&Device::flex(), dtype));
            let adjoint = State::new(zero.ones_like());
            let replay = Replay { run, first: 0, start: &State::new(zero.clone()), gradients: &[] };
            let back = of(&bare).back(replay, zero, adjoint);
            let finite = |part: &Vec<f64>| part.iter().all(|x| x.is_finite());
            assert!(
                finite(&values(&back.u)) && parts(&back.adjoint).iter().all(finite),
                "{bare:?}, {dtype:?}"
            );
        }
    });
}
