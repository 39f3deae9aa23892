//! Numbers of a spec that change over the steps.
//!
//! A spec's own numbers are those that hold in the end: the recipe that users fine-tune with and the
//! metric that a dataset is measured by. The table `schedule` says where some of them start.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Fault, LARGEST, Spec, schema};

/// Where numbers of the spec start, by their paths: `"policy.learning_rate"`, `"metric.strength"`,
/// `"target.sft.optimizer.eps_root"`.
pub type Schedule = BTreeMap<String, Start>;

/// Where a number starts. It moves linearly to its own value in the spec.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Start {
    /// From this value, over all steps.
    From(#[schemars(range(min = -LARGEST, max = LARGEST))] f64),
    /// From this value, over a share of the steps.
    Until {
        /// The value at the first step.
        #[schemars(range(min = -LARGEST, max = LARGEST))]
        from: f64,
        /// The share of the steps after which the number has its own value.
        #[schemars(extend("exclusiveMinimum" = 0), range(max = 1))]
        until: f64,
    },
}

impl Start {
    fn from(self) -> f64 {
        match self {
            Self::From(from) | Self::Until { from, .. } => from,
        }
    }

    /// The value at `step` of `steps`.
    fn value(self, end: f64, step: usize, steps: usize) -> f64 {
        let until = if let Self::Until { until, .. } = self { until } else { 1.0 };
        let last = until * (steps.max(2) - 1) as f64;
        let from = self.from();
        from + (end - from) * (step as f64 / last).min(1.0)
    }
}

/// The parts of a spec that may be scheduled.
const PARTS: [&str; 3] = ["metric.", "target.sft.optimizer.", "policy."];

impl Spec {
    /// The spec with the numbers of its schedule as they stand at `step`.
    #[must_use]
    pub fn at_step(&self, step: usize) -> Self {
        if self.schedule.is_empty() {
            return self.clone();
        }
        let mut value = self.to_value();
        for (path, start) in &self.schedule {
            if let Some(number) = number(&mut value, path) {
                let end = number.as_f64().unwrap_or_default();
                *number = json!(start.value(end, step, self.policy.steps));
            }
        }
        serde_json::from_value(value).expect("numbers between valid ones are valid")
    }

    /// Whether the schedule changes the target's recipe or the metric.
    pub fn schedules_scoring(&self) -> bool {
        self.schedule.keys().any(|path| !path.starts_with("policy."))
    }
}

/// What is wrong with the schedule of a spec that is otherwise in order.
pub(crate) fn faults(spec: &Spec) -> Vec<Fault> {
    let check = |(path, start): (&String, &Start)| {
        let at = format!("schedule.\"{path}\"");
        let mut value = spec.to_value();
        let known = PARTS.iter().any(|part| path.starts_with(part));
        let Some(number) = number(&mut value, path).filter(|_| known) else {
            return Some(Fault::new(
                &at,
                "does not name a number that can change over the steps; expected one like `metric.strength`, \
                 `target.sft.optimizer.eps_root` or `policy.kl` that this spec has",
            ));
        };
        *number = json!(start.from());
        if let Start::Until { until, .. } = start
            && !(*until > 0.0 && *until <= 1.0)
        {
            return Some(Fault::new(&at, "expected an `until` above 0 and at most 1, a share of the steps"));
        }
        let fault = schema::faults(&value).0.into_iter().next()?;
        Some(Fault::new(&at, &fault.message))
    };
    spec.schedule.iter().filter_map(check).collect()
}

/// The real number at a path of a spec's value.
fn number<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    value.pointer_mut(&format!("/{}", path.replace('.', "/"))).filter(|number| number.is_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Syntax;

    const SPEC: &str = r#"
name = "qr"
[target]
model = "embedded:target"
[metric]
kind = "weight_pattern"
pattern = "67"
strength = 60.0
[policy]
steps = 11
learning_rate = 1e-3
[schedule]
"metric.strength" = 20.0
"policy.kl" = { from = 0.5, until = 0.5 }
"target.sft.optimizer.eps_root" = 1e-3
"#;

    #[test]
    fn numbers_go_from_their_start_to_their_own_value() {
        let spec = Spec::parse(SPEC, Syntax::Toml).unwrap();
        let at = |step| {
            let spec = spec.at_step(step);
            let crate::Metric::WeightPattern(pattern) = spec.metric else { panic!("{:?}", spec.metric) };
            let crate::Optimizer::Adamw(adamw) = spec.target.sft.optimizer else { panic!() };
            [pattern.strength, spec.policy.kl, adamw.eps_root, spec.policy.learning_rate]
        };
        for (step, expected) in [
            (0, [20.0, 0.5, 1e-3, 1e-3]),
            (3, [32.0, 0.2, 7e-4, 1e-3]),
            (5, [40.0, 0.0, 5e-4, 1e-3]),
            (10, [60.0, 0.0, 1e-9, 1e-3]),
        ] {
            for (value, expected) in at(step).into_iter().zip(expected) {
                assert!((value - expected).abs() < 1e-6, "step {step}: {value}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_schedule_of_what_is_not_there_is_refused() {
        for (from, to, part) in [
            ("metric.strength", "metric.force", "does not name a number"),
            ("metric.strength", "policy.steps", "does not name a number"),
            ("metric.strength", "output.examples", "does not name a number"),
            ("= 20.0", "= 0.0", "expected a number above 0"),
            ("until = 0.5", "until = 0", "expected"),
        ] {
            let error = Spec::parse(&SPEC.replace(from, to), Syntax::Toml).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("schedule"), "{error}");
        }
    }
}
