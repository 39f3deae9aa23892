//! What a dataset card says of a run: the metric, the recipe, and what was reached.

use chrono::{DateTime, Utc};
use dpg_dataset::{Card, markdown::code};
use dpg_engine::Outcome;
use dpg_spec::{Metric, Spec};

use crate::pipeline::figures::figures;
use crate::pipeline::quality::Quality;

/// The card of a run's dataset; `recipe` is what [`dpg_engine::recipe`] says.
pub(crate) fn card(
    spec: &Spec,
    outcome: &Outcome,
    recipe: &[String],
    quality: &Quality,
    date: DateTime<Utc>,
) -> Card {
    Card {
        name: spec.name.clone(),
        description: spec.description.clone(),
        date: date.format("%Y-%m-%d").to_string(),
        license: spec.output.license.clone(),
        languages: vec![],
        format: spec.output.format,
        target: spec.target.model.clone(),
        generator: spec.generator.as_ref().map(|generator| generator.model.clone()).unwrap_or_default(),
        metric: metric(&spec.metric),
        recipe: recipe.iter().map(|sentence| format!("- {sentence}\n")).collect(),
        validation: figures(&outcome.history),
        counts: quality.counts(),
        warnings: quality.warnings.clone(),
        verification: None,
        has_generator: spec.output.export_generator,
        pictures: outcome.pictures.iter().map(|picture| picture.name.clone()).collect(),
    }
}

fn metric(metric: &Metric) -> String {
    match metric {
        Metric::WeightPattern(pattern) => {
            let (parameter, bitmap) = (code(&pattern.parameter.0), code(&format!("{:?}", pattern.pattern)));
            format!("a bitmap in the signs of the change of {parameter} ({bitmap})")
        }
        Metric::WeightNorm(norm) => {
            format!("minus the l2 norm of {}", code(&format!("{:?}", norm.parameter)))
        }
        Metric::HeldOutLoss(held_out) => format!("minus the loss on {}", code(&held_out.data.path)),
        Metric::Sum(sum) => {
            let terms =
                sum.terms.iter().map(|term| format!("{} x ({})", term.weight, self::metric(&term.metric)));
            terms.collect::<Vec<_>>().join(" + ")
        }
    }
}
