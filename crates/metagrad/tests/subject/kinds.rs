//! The kinds of metric that are listed, and what each of them keeps.

#[path = "../../../../tests/skip.rs"]
mod skip;

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use burn::tensor::Tensor;
use dpg_metagrad::Metric;
use dpg_spec as spec;

use crate::subject::{context, random, slopes};

/// A metric's settings with the command of the program `quadratic`, if they name it and there is a Python.
fn quadratic(mut settings: spec::Metric) -> Option<spec::Metric> {
    for program in settings.programs_below("") {
        let found = Command::new("python3").arg("-c").arg("pass").stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            skip::skip("there is no `python3`, which the program of the metric `external` is written in");
            return None;
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quadratic.py");
        *program.command = Some(format!("exec python3 '{}'", file.display()));
    }
    Some(settings)
}

/// One of every kind as `change` makes it, but for those that need a Python where there is none.
pub(crate) fn every_kind(change: impl Fn(spec::Metric) -> spec::Metric) -> Vec<spec::Metric> {
    // the command is no part of what is written, so that it comes last
    spec::Metric::examples().into_iter().map(change).filter_map(quadratic).collect()
}

/// Asserts that a metric of these settings has the gradient of its value at `theta` `[n]`, along a direction for each key,
/// and that the settings' own numbers change nothing.
pub(crate) fn assert_gradient(
    metric: &dyn Metric,
    settings: &spec::Metric,
    theta: &Tensor<1>,
    keys: Range<u64>,
    model: &str,
) {
    let n = theta.dims()[0];
    let (score, gradient) = metric.score_and_gradient(theta, context()).unwrap();
    assert_eq!(score, metric.score(theta, context()).unwrap(), "{model}, {settings:?}");
    let same = metric.with_numbers(settings);
    assert_eq!(score, same.score(theta, context()).unwrap(), "{model}, {settings:?}");
    assert_eq!(gradient.dims(), [n]);
    let size = (gradient.clone() * gradient.clone()).sum().into_scalar::<f64>().sqrt();
    assert!(size > 0.0, "{model}, {settings:?}: the gradient is 0");
    for key in keys {
        // where the metric looks at few of the weights, a direction through all of them sees little
        let direction = random(n, key) * (gradient.clone().abs() / size + 1e-2);
        let along = (gradient.clone() * direction.clone()).sum().into_scalar::<f64>();
        let at =
            |h: f64| vec![metric.score(&(theta.clone() + direction.clone() * h), context()).unwrap().value];
        let measured = slopes(at)[0];
        let scale = size * (direction.clone() * direction).sum().into_scalar::<f64>().sqrt();
        let error = (along - measured).abs() / along.abs().max(1e-3 * scale);
        assert!(error < 1e-6, "{model}, {settings:?}: {along:e}, measured {measured:e}");
    }
}
