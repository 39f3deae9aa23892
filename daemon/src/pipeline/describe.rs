//! What a dataset card says of a run: the metric, the recipe, and what was reached.

use chrono::{DateTime, Utc};
use dpg_dataset::{Card, GeneratorFolder, WrittenBy, markdown::code};
use dpg_engine::Outcome;
use dpg_spec::{Generator, Length, Spec};

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
        written_by: match spec.generator {
            Some(ref generator) if generator.teachers().iter().any(|teacher| teacher.keep_reasoning) => {
                WrittenBy::ThinkingTeacher
            }
            Some(Generator::Api(_) | Generator::Mix(_)) => WrittenBy::Teacher,
            // which class was asked for stands in the column of a teacher's arms
            _ if spec.output.length.as_ref().is_some_and(Length::is_told) => WrittenBy::Teacher,
            Some(ref generator) if generator.learnt_classes().is_some() => WrittenBy::Teacher,
            _ => WrittenBy::Model,
        },
        target: spec.target.model.clone(),
        generator: spec.generator.as_ref().map(Generator::named).unwrap_or_default(),
        metric: spec.metric.settings().described(&|name| code(name)),
        recipe: recipe.iter().map(|sentence| format!("- {sentence}\n")).collect(),
        validation: figures(&outcome.history),
        counts: quality.counts(),
        warnings: quality.warnings.clone(),
        verification: None,
        teacher: None,
        generator_folder: generator_folder(spec),
        lengths: None,
        pictures: outcome.pictures.iter().map(|picture| picture.name.clone()).collect(),
    }
}

/// What the published generator is, if it is published.
fn generator_folder(spec: &Spec) -> Option<GeneratorFolder> {
    let local = spec.generator.as_ref().and_then(Generator::local);
    let adapted = local.is_some_and(|local| local.lora.is_some());
    let folder = if adapted { GeneratorFolder::Adapter } else { GeneratorFolder::Model };
    spec.output.export_generator.then_some(folder)
}

/// What programs that measured say of their versions, to stand behind the metric's words.
pub(crate) fn versions(programs: &[(String, String)]) -> String {
    let said = programs
        .iter()
        .map(|(program, version)| format!("; {} says that it is {}", code(program), code(version)));
    said.collect()
}
