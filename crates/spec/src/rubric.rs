//! A generator of two: a model on this machine writes what a frozen teacher behind an API is told.

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    ApiGenerator, Fault, LocalGenerator,
    generator::{TEMPLATE, filled},
    syntax::member,
};

/// The kind of a generator that instructs a teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RubricKind {
    /// A model on this machine that instructs a teacher.
    Rubric,
}

fn rubric_kind(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": "rubric" })
}

/// `kind = "rubric"`: a model on this machine writes an instruction to each prompt, and a frozen teacher follows it. The
/// teacher's answer is the row, and its reward is the instruction's, which is what is trained. In the dataset's record
/// `logprob` is that of the instruction, `n_tokens` counts the answer as the teacher's server does, and the prompt of a row
/// that has one is what the teacher was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RubricGenerator {
    /// `rubric`.
    #[schemars(schema_with = "rubric_kind")]
    pub kind: RubricKind,
    /// What the teacher is told: `{rubric}` is the instruction, and `{text}` the row of the prompts. Default `{rubric}`.
    #[serde(default = "RubricGenerator::default_template")]
    #[schemars(length(max = TEMPLATE))]
    pub template: String,
    /// What writes instructions, as a generator of its own would be written. Its prompts are those of the run.
    pub writer: LocalGenerator,
    /// What answers them, as a generator of its own would be written, without prompts, template and arms.
    pub teacher: ApiGenerator,
}

impl RubricGenerator {
    fn default_template() -> String {
        "{rubric}".into()
    }

    /// What the teacher is told of an instruction to a row.
    pub fn told(&self, rubric: &str, row: &str) -> String {
        filled(&self.template, row, "{rubric}", rubric)
    }

    /// What does not go together in it, apart from its writer and its teacher, by keys below `at`.
    pub(crate) fn faults_below(&self, at: &str) -> Vec<Fault> {
        let mut faults: Vec<Fault> = vec![];
        let mut require = |holds: bool, key: &str, message: &str| {
            if !holds {
                faults.push(Fault::new(member(at, key), message));
            }
        };
        let Self { template, teacher, .. } = self;
        require(
            template.contains("{rubric}"),
            "template",
            "has no place for the instruction; add `{rubric}`",
        );
        require(
            teacher.prompts.is_none(),
            "teacher.prompts",
            "the prompts are the writer's; move them to `generator.writer.prompts`",
        );
        require(
            teacher.template == "{text}",
            "teacher.template",
            "what the teacher is told is `generator.template`; move it there",
        );
        require(
            teacher.arms.is_empty(),
            "teacher.arms",
            "of a teacher that is instructed the instruction is learnt, and no arm; remove them",
        );
        faults
    }
}
