//! The kinds of metric that are listed.

#[path = "../../../../tests/skip.rs"]
mod skip;

use std::path::Path;
use std::process::{Command, Stdio};

use dpg_spec as spec;

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
