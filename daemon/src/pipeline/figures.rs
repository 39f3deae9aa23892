//! The figures that a run reports: Phi and what else its validations measured, before and after.

use dpg_dataset::Figure;
use dpg_engine::History;

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
