//! What a run publishes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fault, Gate, Length, MOST_ROLLOUTS, MOST_ROWS, NAME, Policy};

/// What is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// Rows of the final dataset, drawn from the final generator. Default 1024.
    #[schemars(range(min = 1, max = MOST_ROWS))]
    pub examples: usize,
    /// Rows of each prompt; 1 for the most varied texts, with advantages over all rows. Default: the
    /// policy's.
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    // a daemon that does not know the key runs a spec without it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_size: Option<usize>,
    /// What refuses rows: others are drawn in their place. Default: nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub gates: Vec<Gate>,
    /// How long rows should be. Default: as long as the generator makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<Length>,
    /// Rows drawn at most for each of the examples, until enough pass the gates and the quotas of lengths; if too few
    /// did, there are fewer examples. Default 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub draws: Option<usize>,
    /// Which of them are published. Default `all`.
    pub select: Select,
    /// Where `top_fraction` is taken: of all rows, or of each prompt's or each length class' rows, so that each keeps its
    /// share. Default `all`.
    #[serde(skip_serializing_if = "Within::is_all")]
    pub select_within: Within,
    /// Columns of a row. Default `text`.
    pub format: Format,
    /// SPDX identifier for the dataset card. Default `other`.
    #[schemars(length(min = 1, max = NAME))]
    pub license: String,
    /// Try the dataset out before it is published, and withhold it if it fails: `latest` passes over
    /// it. Default unset: it is published as it is.
    pub publish_if: Option<PublishIf>,
    /// Publish the trained generator with the dataset, as a Hugging Face folder `generator`. Default
    /// false.
    pub export_generator: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            examples: 1024,
            group_size: None,
            gates: vec![],
            length: None,
            draws: None,
            select: Select::All,
            select_within: Within::All,
            format: Format::Text,
            license: "other".into(),
            publish_if: None,
            export_generator: false,
        }
    }
}

impl Output {
    /// Whether rows may be refused, so that others are drawn in their place.
    pub fn refuses(&self) -> bool {
        !self.gates.is_empty()
            || self.length.as_ref().is_some_and(|length| length.quotas || length.siblings.is_some())
    }

    /// Rows drawn at most for each of the examples.
    pub fn draws(&self) -> usize {
        if self.refuses() { self.draws.unwrap_or(4) } else { 1 }
    }

    /// What does not go together in it.
    pub(crate) fn faults(&self, policy: &Policy, has_classes: bool) -> Vec<Fault> {
        let mut faults: Vec<Fault> = vec![];
        for (place, gate) in self.gates.iter().enumerate() {
            faults.extend(gate.faults_below(&format!("output.gates[{place}]")));
        }
        faults.extend(self.length.iter().flat_map(|length| length.faults(policy, has_classes)));
        let mut require = |holds: bool, key: &str, message: &str| {
            if !holds {
                faults.push(Fault::new(key, message));
            }
        };
        require(
            self.draws.is_none() || self.refuses(),
            "output.draws",
            "nothing refuses rows: give `output.gates` or `output.length`, or remove it",
        );
        require(
            self.select_within.is_all() || matches!(self.select, Select::TopFraction(_)),
            "output.select_within",
            "says where `select = { top_fraction = .. }` is taken, and all rows are published; give it, or remove this",
        );
        let classes = self.length.as_ref().is_some_and(|length| !length.classes().is_empty());
        require(
            self.select_within != Within::Length || classes,
            "output.select_within",
            "there are no classes of lengths: give `output.length` a `mix` or `quantiles`",
        );
        require(
            policy.refusal_penalty <= 0.0 || !self.gates.is_empty(),
            "policy.refusal_penalty",
            "nothing refuses rollouts; give `output.gates`, or remove it",
        );
        faults
    }
}

/// What a dataset has to show before it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PublishIf {
    /// Fine-tuning fresh targets on it beats no training and the untrained generator's examples, and
    /// its rewards tell its better rows from its worse.
    BetterThanControls,
}

/// Which of the drawn rows are published.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// All of them.
    All,
    /// The share with the highest rewards, in (0, 1].
    TopFraction(#[schemars(extend("exclusiveMinimum" = 0), range(max = 1))] f64),
}

/// Where the rows with the highest rewards are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Within {
    /// Of all rows.
    #[default]
    All,
    /// Of the rows of each prompt.
    Prompt,
    /// Of the rows of each class of lengths.
    Length,
}

impl Within {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// Columns of a published row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `text`: the completion.
    Text,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `messages`: a user's and an assistant's turn.
    Messages,
}
