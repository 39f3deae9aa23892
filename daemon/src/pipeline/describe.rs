//! What a dataset card says of a run: the metric, the recipe, and what was reached.

use chrono::{DateTime, Utc};
use dpg_dataset::{Card, Figure, markdown::code};
use dpg_engine::{History, Outcome};
use dpg_spec::{Metric, Spec};

use crate::pipeline::quality::Quality;

/// The metric's name among a validation's figures.
pub(crate) const PHI: &str = "Phi";

/// Names and values of a validation: Phi, the proxies, and those of the outputs.
pub(crate) fn figures(history: &History) -> Vec<Figure> {
    let (Some(first), Some(last)) = (history.validations.first(), history.validations.last()) else {
        return vec![];
    };
    let mut figures = vec![Figure { name: PHI.into(), before: first.score.value, after: last.score.value }];
    for ((name, before), (_, after)) in first.score.proxies.iter().zip(&last.score.proxies) {
        figures.push(Figure { name: name.clone(), before: *before, after: *after });
    }
    for (name, after) in &last.outputs {
        let before = first.outputs.iter().find(|(other, _)| other == name).map_or(0.0, |(_, share)| *share);
        figures.push(Figure { name: format!("outputs: {name}"), before, after: *after });
    }
    figures
}

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
