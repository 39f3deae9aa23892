//! What a generator is asked: the rows of a file, and the classes that they are in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fault, LARGEST, LOCATION, Location, LocationKind, NAME, syntax::member};

/// Most classes that losses make.
const MOST_BINS: usize = 16;

/// Where prompts come from: a JSONL or Parquet file and its text column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// A path relative to the spec file, or `s3://bucket/key`, or `embedded:NAME`.
    #[schemars(length(min = 1, max = LOCATION))]
    pub path: String,
    /// The column to read. Default `text`.
    #[serde(default = "text_column")]
    #[schemars(length(min = 1, max = NAME))]
    pub column: String,
    /// Share of the rows kept aside for validation, never trained on; of each class, if there are classes. Default 0.1.
    #[serde(default = "Prompts::default_validation_share")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// Classes that the prompts are in: those of a column, or by how hard they are for the target. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<PromptClasses>,
}

impl Prompts {
    fn default_validation_share() -> f64 {
        0.1
    }
}

fn text_column() -> String {
    "text".into()
}

/// Classes of prompts, by a `column` or by a `reference`. They can be learnt, and have lengths of their own (`prompts` of a
/// class of `output.length`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptClasses {
    /// The column that names the class of each prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME))]
    pub column: Option<String>,
    /// The column that has an answer to each prompt. Prompts are in classes by the loss of the target on it, mean over its
    /// tokens and before any fine-tuning: as many in each, from `loss 1`, the easiest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME))]
    pub reference: Option<String>,
    /// How many classes `reference` makes. Default 3.
    #[serde(default = "PromptClasses::default_bins")]
    #[schemars(range(min = 2, max = MOST_BINS))]
    pub bins: usize,
    /// Learn how often to ask of each class, from equal shares, as a teacher's arms are learnt: one whose rows have
    /// higher rewards is asked of more often. Default false: prompts are asked alike.
    #[serde(default)]
    pub learn: bool,
    /// Step size of the shares: a few logits take larger steps than weights do. Default: that of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub learning_rate: Option<f64>,
}

impl PromptClasses {
    fn default_bins() -> usize {
        3
    }

    /// The name of a class that losses make, from 0.
    pub fn bin(number: usize) -> String {
        format!("loss {}", number + 1)
    }

    /// What is wrong with it at a key.
    pub(crate) fn fault(&self, at: &str) -> Option<Fault> {
        let expected = "expected either `column`, which names the class of each prompt, or `reference`, which has its answer";
        (self.column.is_some() == self.reference.is_some()).then(|| Fault::new(at, expected))
    }
}

/// The location of the prompts of a generator at a key.
pub(crate) fn prompts_below<'a>(prompts: &'a mut Option<Prompts>, at: &str) -> Option<Location<'a>> {
    let key = member(at, "prompts.path");
    prompts.as_mut().map(|file| Location { key, kind: LocationKind::Data, uri: &mut file.path })
}

#[cfg(test)]
mod tests {
    use crate::{Spec, Syntax};

    #[test]
    fn what_classes_take_is_told_by_its_key() {
        let parsed = |classes: &str, more: &str| {
            let text = format!(
                "name = 'x'\n[target]\nmodel = 'embedded:target'\n[metric]\nkind = 'weight_norm'\nparameter = 'a'\n\
                 [generator]\nmodel = 'embedded:generator'\n[generator.prompts]\npath = 'x.jsonl'\nclasses = {{ {classes} }}\n\
                 {more}"
            );
            Spec::parse(&text, Syntax::Toml)
        };
        let global = "[policy]\nadvantage = 'global'\n";
        let told =
            format!("{global}[output.length]\nmix = [{{ name = 'a', share = 1, template = '{{text}}' }}]");
        for (classes, more, expected) in [
            ("", "", "`generator.prompts.classes`: expected either `column`"),
            ("column = 'a', reference = 'b'", "", "`generator.prompts.classes`: expected either `column`"),
            ("reference = 'a', bins = 1", "", "`generator.prompts.classes.bins`: expected"),
            ("column = 'a', learn = true", "", "`generator.prompts.classes.learn`: takes `policy.advantage"),
            ("column = 'a', learn = true", &told, "`generator.prompts.classes.learn`: does not go with"),
            (
                "column = 'a', learn = true",
                &format!("{global}steps = 0"),
                "`generator.prompts.classes.learn`: nothing is learnt",
            ),
        ] {
            let error = parsed(classes, more).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let spec = parsed("column = 'a', learn = true", global).unwrap();
        assert_eq!(Spec::parse(&spec.to_toml().unwrap(), Syntax::Toml).unwrap(), spec);
        parsed("column = 'a'", &told).unwrap();
    }
}
