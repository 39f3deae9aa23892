//! Optimizer steps against optax in f64 (golden/make_optimizers.py), and their adjoints against
//! central finite differences.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad::{State, optimizers};
use dpg_models::keyed_rng;
use dpg_spec as spec;
use rand::RngExt;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    optimizer: spec::Optimizer,
    theta: Vec<f64>,
    gradients: Vec<Vec<f64>>,
    thetas: Vec<Vec<f64>>,
    m: Option<Vec<Vec<f64>>>,
    v: Option<Vec<Vec<f64>>>,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/optimizers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn tensor(values: &[f64]) -> Tensor<1> {
    Tensor::from_data(values, (&Device::flex(), DType::F64))
}

fn values(tensor: &Tensor<1>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn assert_close(ours: &Tensor<1>, theirs: &[f64], what: &str) {
    for (a, b) in values(ours).iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-12), "{what}: {a:e}, expected {b:e}");
    }
}

#[test]
fn steps_equal_optax() {
    let cases = cases();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let optimizer = optimizers::from_spec(case.optimizer);
        let mut state = State::new(tensor(&case.theta));
        for (t, g) in case.gradients.iter().enumerate() {
            state = optimizer.step(t, state, &tensor(g));
            assert_close(&state.theta, &case.thetas[t], "theta");
            if let (Some(m), Some(v)) = (&case.m, &case.v) {
                assert_close(&state.moments[0], &m[t], "m");
                assert_close(&state.moments[1], &v[t], "v");
            }
        }
    }
}

/// `<c, step(x)>` for the cotangent `c` has the gradient that the adjoint returns, in every entry of
/// theta, the moments and g.
#[test]
fn adjoints_equal_finite_differences() {
    const N: usize = 7;
    const H: f64 = 1e-6;
    let mut rng = keyed_rng([9, 0, 0, 0]);
    let mut random =
        |low: f64, high: f64| -> Vec<f64> { (0..N).map(|_| rng.random_range(low..high)).collect() };
    for case in cases() {
        let optimizer = optimizers::from_spec(case.optimizer);
        let k = optimizer.moments();
        for step in [0, 3] {
            // parts 0: theta, 1..=k: moments (the second one positive), k + 1: the gradient
            let mut at = vec![random(-1.0, 1.0)];
            at.extend((0..k).map(|moment| if moment == 0 { random(-0.1, 0.1) } else { random(0.01, 0.02) }));
            at.push(random(-0.1, 0.1));
            let cotangents: Vec<Vec<f64>> = (0..=k).map(|_| random(-1.0, 1.0)).collect();

            let state_of = |parts: &[Vec<f64>]| State {
                theta: tensor(&parts[0]),
                moments: parts[1..=k].iter().map(|part| tensor(part)).collect(),
            };
            let value = |parts: &[Vec<f64>]| -> f64 {
                let after = optimizer.step(step, state_of(parts), &tensor(&parts[k + 1]));
                let outputs = std::iter::once(&after.theta).chain(&after.moments);
                let products = outputs.zip(&cotangents).map(|(output, cotangent)| {
                    values(output).iter().zip(cotangent).map(|(a, b)| a * b).sum::<f64>()
                });
                products.sum()
            };
            let g = tensor(&at[k + 1]);
            let back = optimizer.back(step, &state_of(&at), &[], g, state_of(&cotangents));
            let before = back.adjoint;
            let adjoints = std::iter::once(&before.theta).chain(&before.moments).chain([&back.u]);
            for (part, adjoint) in adjoints.enumerate() {
                for (entry, exact) in values(adjoint).into_iter().enumerate() {
                    let moved = |change: f64| {
                        let mut parts = at.clone();
                        parts[part][entry] += change;
                        value(&parts)
                    };
                    let difference = (moved(H) - moved(-H)) / (2.0 * H);
                    let error = (exact - difference).abs();
                    assert!(
                        error < 1e-7 * exact.abs().max(1e-2),
                        "{:?}, step {step}, part {part}: {exact:e} against {difference:e}",
                        case.optimizer
                    );
                }
            }
        }
    }
}

/// Tracked vectors are computed by tensor operations, as on other devices than the CPU.
#[test]
fn one_pass_equals_composed_operations() {
    let mut rng = keyed_rng([10, 0, 0, 0]);
    let mut random =
        |low: f64| -> Tensor<1> { tensor(&(0..7).map(|_| rng.random_range(low..1.0)).collect::<Vec<f64>>()) };
    for case in cases() {
        let optimizer = optimizers::from_spec(case.optimizer);
        let mut state = |second_low: f64| {
            let lows = [-1.0, second_low].into_iter().take(optimizer.moments());
            State { moments: lows.map(&mut random).collect(), theta: random(-1.0) }
        };
        let (before, after, g) = (state(0.0), state(-1.0), tensor(&case.gradients[0]));
        let g = Tensor::cat(vec![g; 7], 0).narrow(0, 0, 7);
        let tracked = |state: &State| State {
            theta: state.theta.clone().autodiff(),
            moments: state.moments.iter().map(|moment| moment.clone().autodiff()).collect(),
        };
        let parts = |state: State, u: Option<Tensor<1>>| -> Vec<f64> {
            let all = std::iter::once(state.theta).chain(state.moments).chain(u);
            all.flat_map(|part| values(&part)).collect()
        };
        for step in [0, 3] {
            let both = |before: &State, g: &Tensor<1>, after: State| {
                let back = optimizer.back(step, before, &[], g.clone(), after);
                [parts(optimizer.step(step, before.clone(), g), None), parts(back.adjoint, Some(back.u))]
                    .concat()
            };
            let one_pass = both(&before, &g, after.clone());
            let composed = both(&tracked(&before), &g.clone().autodiff(), tracked(&after));
            for (a, b) in one_pass.iter().zip(&composed) {
                assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-12), "{:?}: {a:e}, {b:e}", case.optimizer);
            }
        }
    }
}

/// With eps_root = 0 and no gradient yet, AdamW's root is 0: the adjoint must stay finite.
#[test]
fn a_gradient_of_zero_has_a_finite_adjoint() {
    let settings = spec::AdamW { eps_root: 0.0, ..spec::AdamW::default() };
    let optimizer = optimizers::from_spec(spec::Optimizer::Adamw(settings));
    for dtype in [DType::F32, DType::F64] {
        let zero = Tensor::<1>::zeros([3], (&Device::flex(), dtype));
        let adjoint = State::new(zero.ones_like());
        let u = optimizer.back(0, &State::new(zero.clone()), &[], zero, adjoint).u;
        assert!(u.to_data().iter::<f64>().all(f64::is_finite), "{dtype:?}");
    }
}

/// The walk back finds a state again from the first one and the gradients, to the last bit, and leaves what
/// it was given as it was.
#[test]
fn steps_made_again_are_the_same() {
    // more than one chunk
    const N: usize = 40_000;
    let mut rng = keyed_rng([11, 0, 0, 0]);
    for dtype in [DType::F32, DType::F64] {
        let mut random = || -> Tensor<1> {
            let values: Vec<f64> = (0..N).map(|_| rng.random_range(-1.0..1.0)).collect();
            tensor(&values).cast(dtype)
        };
        for case in cases() {
            let optimizer = optimizers::from_spec(case.optimizer);
            let (theta, gradients) = (random(), [random(), random(), random()]);
            let first = values(&theta);
            let mut states = vec![State::new(theta)];
            for (t, g) in gradients.iter().enumerate() {
                states.push(optimizer.step(t, states[t].clone(), g));
            }
            let parts = |state: &State| -> Vec<Vec<f64>> {
                std::iter::once(&state.theta).chain(&state.moments).map(values).collect()
            };
            let again = optimizer.advance(0, states[0].clone(), &gradients);
            assert_eq!(parts(&again), parts(&states[3]));
            let adjoint = State::new(random());
            let [g0, g1, g2] = gradients;
            let from_first = optimizer.back(0, &states[0], &[g0, g1], g2.clone(), adjoint.clone());
            let from_last = optimizer.back(2, &states[2], &[], g2, adjoint);
            assert_eq!(values(&from_first.theta), values(&states[2].theta));
            assert_eq!(values(&from_first.u), values(&from_last.u));
            assert_eq!(parts(&from_first.adjoint), parts(&from_last.adjoint));
            assert_eq!(values(&states[0].theta), first);
        }
    }
}
