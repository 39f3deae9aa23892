//! What every backend promises, on each listed one that this machine can open: the CPU in f64 is the
//! reference.

use std::collections::HashSet;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{
    CausalLm, Example, MatmulPrecision, Params, Predictions, architecture, can_sweep,
    device::{self, Backend},
    keyed_rng, places, weights,
};
use rand::RngExt;

/// The listed backends that open here, each with a device.
fn opened() -> impl Iterator<Item = (&'static dyn Backend, Device)> {
    device::backends().iter().filter_map(|&backend| Some((backend, backend.open(0).ok()?)))
}

fn relative_distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |x: f64, y: f64| x + y * y;
    let difference = found.iter().zip(expected).map(|(a, b)| a - b).fold(0.0, norm);
    (difference / expected.iter().copied().fold(0.0, norm)).sqrt()
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

#[test]
fn every_backend_opens_or_says_why_not() {
    let names: HashSet<_> = device::backends().iter().map(|backend| backend.name()).collect();
    assert_eq!(names.len(), device::backends().len(), "two backends have one name");
    for &backend in device::backends() {
        assert!(backend.precisions().contains(&MatmulPrecision::F32), "{}", backend.name());
        assert!(!backend.remedy().is_empty() && device::help().contains(backend.name()));
        match (backend.open(0), device::parse(&backend.device_name(0))) {
            (Ok(device), Ok(parsed)) => assert_eq!(parsed, [device]),
            (Err(reason), Err(error)) => assert!(error.to_string().contains(&reason), "{error}"),
            _ => panic!("`{}` opens under one name and not under the other", backend.name()),
        }
    }
    assert!(opened().count() >= 1);
}

#[test]
fn what_is_asked_of_a_device_its_backend_answers() {
    for (backend, device) in opened() {
        let found = device::backend_of(&device);
        assert_eq!(found.precisions(), backend.precisions());
        assert_eq!(found.fuses(), backend.fuses());
        assert_eq!(found.is_in_host_memory(), backend.is_in_host_memory());
        assert_eq!(can_sweep(&Tensor::<1>::ones([4], &device)), backend.fuses(), "{}", backend.name());
        for precision in [MatmulPrecision::F32, MatmulPrecision::Tf32, MatmulPrecision::Bf16] {
            assert_eq!(precision.check(&device).is_ok(), backend.precisions().contains(&precision));
        }
    }
}

#[test]
fn devices_share_work() {
    for (backend, device) in opened() {
        let items = [1.0_f32, 2.0, 3.0];
        let sums = device::map(&[device.clone(), device], &items, |device, part| {
            host(Tensor::<1>::from_floats(part, device).sum())[0]
        });
        assert_eq!(sums, [3.0, 3.0], "{}", backend.name());
    }
}

/// Log-probabilities, their tangents, and the gradients of both.
fn passes(lm: &dyn CausalLm, theta: &[f64], device: &Device, dtype: DType) -> [Vec<f64>; 4] {
    let mut rng = keyed_rng([7, 0, 0, 0]);
    let direction: Vec<f64> = theta.iter().map(|_| rng.random_range(-0.1..0.1)).collect();
    let vector = |values: &[f64]| Tensor::<1>::from_data(values, (device, dtype));
    let (theta, direction) = (vector(theta), vector(&direction));
    let rows = [vec![3, 1, 4, 1, 5, 9], vec![2, 7, 18]].map(Example::all_scored);
    let pass = |params: &Params| Predictions::at(lm, params, &rows, &places(&rows));
    let twice = |numbers: &[f64]| numbers.iter().map(|number| 2.0 * number).collect::<Vec<_>>();
    // of sums of squares
    let layout = lm.layout();
    let params = Params::tracked(layout, &theta);
    let predictions = pass(&params);
    let value = host(predictions.log_probs().primal);
    let gradient = params.gradient(predictions.weighed(&twice(&value)).1.backward());
    let params = Params::tracked(layout, &theta).with_tangent(layout, &direction);
    let predictions = pass(&params);
    let tangent = host(predictions.log_probs().tangent.unwrap());
    let curvature = params.gradient(predictions.weighed(&twice(&tangent)).1.backward());
    [value, tangent, host(gradient), host(curvature)]
}

/// In f32 nothing is rounded to fewer bits on the way, and a lower precision rounds as much as it says.
#[test]
fn passes_are_those_of_the_cpu_in_f64() {
    for model in ["gpt2", "llama", "qwen3"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(model);
        let mut lm = architecture(&folder).unwrap();
        let theta: Vec<f64> = weights::load(&folder, lm.layout()).unwrap();
        let exact = passes(lm.as_ref(), &theta, &Device::flex(), DType::F64);
        for (backend, device) in opened() {
            for &precision in backend.precisions() {
                let tolerance = match precision {
                    MatmulPrecision::F32 => 2e-5,
                    MatmulPrecision::Tf32 => 1e-2,
                    MatmulPrecision::Bf16 => 1e-1,
                };
                lm.set_precision(precision);
                for (found, exact) in passes(lm.as_ref(), &theta, &device, DType::F32).iter().zip(&exact) {
                    let error = relative_distance(found, exact);
                    assert!(error < tolerance, "{model} on {}: {error:e}", backend.title());
                }
            }
            lm.set_precision(MatmulPrecision::F32);
        }
    }
}
