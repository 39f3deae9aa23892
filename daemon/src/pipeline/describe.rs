//! What a dataset card says of a run: the metric, the recipe, and what was reached.

use chrono::{DateTime, Utc};
use dpg_dataset::{Card, markdown::code};
use dpg_engine::Outcome;
use dpg_spec::{Bitmap, Metric, Parameters, Spec};

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

/// The metric in words that end a sentence.
fn metric(metric: &Metric) -> String {
    match metric {
        Metric::WeightPattern(pattern) => {
            let picture = match &pattern.pattern {
                Bitmap::Named(name) => format!("the bitmap {}", code(name)),
                Bitmap::Qr { qr } => format!("a QR code of {}", code(qr)),
                Bitmap::Image { image } => format!("the picture {}", code(image)),
            };
            let parameter = code(&pattern.parameter.0);
            format!("how clearly the signs of the change of {parameter} draw {picture}")
        }
        Metric::WeightNorm(norm) => {
            let names = match &norm.parameter {
                Parameters::One(name) => code(&name.0),
                Parameters::Many(names) => {
                    let names: Vec<_> = names.iter().map(|name| code(&name.0)).collect();
                    format!("{}, as one vector", names.join(", "))
                }
            };
            format!("minus the l2 norm of {names}")
        }
        Metric::HeldOutLoss(held_out) => format!("minus the loss on {}", code(&held_out.data.path)),
        Metric::Sum(sum) => {
            let terms =
                sum.terms.iter().map(|term| format!("{} x ({})", term.weight, self::metric(&term.metric)));
            terms.collect::<Vec<_>>().join(" + ")
        }
    }
}
