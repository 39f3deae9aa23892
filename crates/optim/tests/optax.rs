//! Steps of AdamW and SGD against optax in f64 (golden/make_optimizers.py).

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::Layout;
use dpg_optim::{Run, State, of};
use dpg_spec as spec;
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
        let optimizer = of(&case.optimizer);
        let mut layout = Layout::default();
        layout.push("theta", &[case.theta.len()], false);
        let run = Run::constant(&layout);
        let mut state = State::new(tensor(&case.theta));
        for (t, g) in case.gradients.iter().enumerate() {
            state = optimizer.step(&run, t, state, &tensor(g));
            assert_close(&state.theta, &case.thetas[t], "theta");
            if let (Some(m), Some(v)) = (&case.m, &case.v) {
                assert_close(&state.moments[0], &m[t], "m");
                assert_close(&state.moments[1], &v[t], "v");
            }
        }
    }
}
