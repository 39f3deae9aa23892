//! What writes the examples: a model on this machine that is trained ([`LocalGenerator`]), a frozen teacher behind
//! an API whose choice of arms is trained ([`ApiGenerator`]), both, the first instructing the second
//! ([`RubricGenerator`]), or several side by side ([`MixGenerator`]).

use std::collections::HashSet;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Connection, Fault, LARGEST, LocalGenerator, Location, MOST_ROLLOUTS, MOST_TOKENS, Member, MixGenerator,
    NAME, PromptClasses, Prompts, RubricGenerator, mix::placed_mut, prompts::prompts_below, syntax::member,
};

/// Most arms of a teacher.
const MOST_ARMS: usize = 256;
/// Most characters of a prompt's text around the row.
pub(crate) const TEMPLATE: usize = 65536;
/// Keys of a request that settings of their own fill in.
const OWN_KEYS: [&str; 10] = [
    "model",
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "seed",
    "stream",
    "logprobs",
];

/// What writes the examples, and what it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the settings say what each is, in the schema as well")]
#[expect(clippy::large_enum_variant, reason = "a spec has one")]
pub enum Generator {
    Local(LocalGenerator),
    Api(ApiGenerator),
    Rubric(RubricGenerator),
    Mix(MixGenerator),
}

impl Generator {
    /// Where the prompts come from, if there are any.
    pub fn prompts(&self) -> Option<&Prompts> {
        match self {
            Self::Local(local) => local.prompts.as_ref(),
            Self::Api(api) => api.prompts.as_ref(),
            Self::Rubric(rubric) => rubric.writer.prompts.as_ref(),
            Self::Mix(mix) => mix.prompts.as_ref(),
        }
    }

    /// The same, to be replaced.
    pub fn prompts_mut(&mut self) -> &mut Option<Prompts> {
        match self {
            Self::Local(local) => &mut local.prompts,
            Self::Api(api) => &mut api.prompts,
            Self::Rubric(rubric) => &mut rubric.writer.prompts,
            Self::Mix(mix) => &mut mix.prompts,
        }
    }

    /// Most new tokens of an example.
    pub fn max_new_tokens(&self) -> usize {
        match self {
            Self::Local(local) => local.max_new_tokens,
            Self::Api(api) => api.longest(),
            Self::Rubric(rubric) => rubric.teacher.longest(),
            Self::Mix(mix) => {
                mix.members.iter().map(|member| member.generator.max_new_tokens()).max().unwrap_or_default()
            }
        }
    }

    /// The settings of the model on this machine, if it has one.
    pub fn local(&self) -> Option<&LocalGenerator> {
        match self {
            Self::Local(local) => Some(local),
            Self::Api(_) => None,
            Self::Rubric(rubric) => Some(&rubric.writer),
            Self::Mix(mix) => mix.local(),
        }
    }

    /// The same, to be changed.
    pub fn local_mut(&mut self) -> Option<&mut LocalGenerator> {
        match self {
            Self::Local(local) => Some(local),
            Self::Api(_) => None,
            Self::Rubric(rubric) => Some(&mut rubric.writer),
            Self::Mix(mix) => mix.members.iter_mut().find_map(|member| member.generator.local_mut()),
        }
    }

    /// The settings of its teachers, if it has any.
    pub fn teachers(&self) -> Vec<&ApiGenerator> {
        match self {
            Self::Local(_) => vec![],
            Self::Api(api) => vec![api],
            Self::Rubric(rubric) => vec![&rubric.teacher],
            Self::Mix(mix) => mix.members.iter().flat_map(|member| member.generator.teachers()).collect(),
        }
    }

    /// The same below a key, each with its own, to be told what its teacher's name stands for.
    pub fn teachers_below(&mut self, at: &str) -> Vec<(String, &mut ApiGenerator)> {
        match self {
            Self::Local(_) => vec![],
            Self::Api(api) => vec![(at.into(), api)],
            Self::Rubric(rubric) => vec![(member(at, "teacher"), &mut rubric.teacher)],
            Self::Mix(mix) => {
                placed_mut(&mut mix.members, at).flat_map(|(at, one)| one.teachers_below(&at)).collect()
            }
        }
    }

    /// What it is, for people: the model's location, or the models and the server that has them.
    pub fn named(&self) -> String {
        let of_teacher = |api: &ApiGenerator| format!("{} of {}", api.models().join(", "), api.teacher);
        match self {
            Self::Local(local) => local.model.clone(),
            Self::Api(api) => of_teacher(api),
            Self::Rubric(rubric) => {
                format!("{}, instructed by {}", of_teacher(&rubric.teacher), rubric.writer.model)
            }
            Self::Mix(mix) => {
                let names: Vec<_> = mix.members.iter().map(|member| member.generator.named()).collect();
                names.join("; ")
            }
        }
    }

    /// Its arms, as they are named where rows are told apart; none if it has none.
    pub fn arms(&self) -> Vec<String> {
        match self {
            Self::Local(_) | Self::Rubric(_) => vec![],
            Self::Api(api) => api.arms.iter().map(|arm| arm.name.clone()).collect(),
            Self::Mix(mix) => {
                let of_member = |one: &Member| match one.generator.arms() {
                    arms if arms.is_empty() => vec![one.name.clone()],
                    arms => arms.iter().map(|arm| one.arm(arm)).collect(),
                };
                mix.members.iter().flat_map(of_member).collect()
            }
        }
    }

    /// The classes of its prompts whose shares are learnt, if they are.
    pub fn learnt_classes(&self) -> Option<&PromptClasses> {
        self.prompts()?.classes.as_ref().filter(|classes| classes.learn)
    }

    /// The locations below a key, to be read or replaced.
    pub(crate) fn locations_below(&mut self, at: &str) -> Vec<Location<'_>> {
        match self {
            Self::Local(local) => local.locations_below(at),
            Self::Api(api) => prompts_below(&mut api.prompts, at).into_iter().collect(),
            Self::Rubric(rubric) => rubric.writer.locations_below(&member(at, "writer")),
            Self::Mix(MixGenerator { members, prompts, .. }) => {
                let of_members = placed_mut(members, at).flat_map(|(at, one)| one.locations_below(&at));
                prompts_below(prompts, at).into_iter().chain(of_members).collect()
            }
        }
    }
}

/// The kind of a generator on this machine, which need not be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalKind {
    /// A model on this machine.
    #[default]
    Local,
}

/// The kind of a generator behind an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKind {
    /// A model behind an API.
    Api,
}

/// A template with a row of the prompts for `{text}` and something else for its own mark: in one pass, so that nothing that
/// either says is filled in.
pub(crate) fn filled(template: &str, row: &str, mark: &str, other: &str) -> String {
    let parts: Vec<_> = template.split(mark).map(|part| part.replace("{text}", row)).collect();
    parts.join(other)
}

/// Schema of the key `kind` of a local generator.
pub(crate) fn local_kind(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": "local" })
}

fn api_kind(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": "api" })
}

/// `kind = "api"`: a frozen teacher, asked by chat completions of an OpenAI-compatible server. What is trained is which of
/// its `arms` is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiGenerator {
    /// `api`.
    #[schemars(schema_with = "api_kind")]
    pub kind: ApiKind,
    /// The server: a name among the `teachers` of `dpg.toml`, which has its address, its key and its prices.
    #[schemars(length(min = 1, max = NAME))]
    pub teacher: String,
    /// The model's id, as the server has it.
    #[schemars(length(min = 1, max = NAME))]
    pub model: String,
    /// The prompts, one per row. Without it `{text}` stands for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The user's turn, around `{text}`. Default `{text}`.
    #[serde(default = "ApiGenerator::default_template")]
    #[schemars(length(max = TEMPLATE))]
    pub template: String,
    /// The system's turn. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = TEMPLATE))]
    pub system: Option<String>,
    /// Most new tokens of an answer, those of its reasoning included. It has no default: it bounds what an answer costs.
    #[schemars(range(min = 1, max = MOST_TOKENS))]
    pub max_completion_tokens: usize,
    /// Sampling temperature. Sent only if it is given: some models have a fixed one. Default: the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = LARGEST))]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 and at most 1. Sent only if it is given. Default: the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1))]
    pub top_p: Option<f64>,
    /// Further keys of a request, as they are: `{ reasoning_effort = "low" }`. Default: none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: Map<String, Value>,
    /// What the model thought before it answered is kept, as the `reasoning_content` of the assistant's turn: it takes
    /// `output.format = "messages"`. Default false: it is dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_reasoning: bool,
    /// Send a seed with each request: the server takes one. Default false.
    #[serde(default)]
    pub send_seed: bool,
    /// Answers asked for in one request where several rows of a draw ask the same: the server's `n`, which makes it
    /// read the prompt once. Default 1: `n` is not sent.
    #[serde(default = "ApiGenerator::default_choices")]
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    pub choices: usize,
    /// What is learnt: which of these to ask, and how often. Each says in what it differs from the settings above.
    /// Default: none, and nothing is learnt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_ARMS))]
    pub arms: Vec<ArmSettings>,
    /// What a run may spend. Default: no bound but the operator's.
    #[serde(default, skip_serializing_if = "Budget::is_unbounded")]
    pub budget: Budget,
    /// What the teacher's name stands for on this machine; nothing that a spec says.
    #[serde(skip)]
    pub connection: Option<Connection>,
}

/// One way to ask a teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmSettings {
    /// Its name, in reports and in the column `arm` of the dataset's record.
    #[schemars(length(min = 1, max = NAME))]
    pub name: String,
    /// Its template. Default: the generator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = TEMPLATE))]
    pub template: Option<String>,
    /// Its system's turn. Default: the generator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = TEMPLATE))]
    pub system: Option<String>,
    /// Its model. Default: the generator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME))]
    pub model: Option<String>,
    /// Its temperature. Default: the generator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = LARGEST))]
    pub temperature: Option<f64>,
    /// Its longest answer. Default: the generator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_TOKENS))]
    pub max_completion_tokens: Option<usize>,
}

/// One way to ask a teacher, in full.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name; none if the teacher has no arms.
    pub name: Option<String>,
    /// The model's id.
    pub model: String,
    /// The user's turn, around `{text}`.
    pub template: String,
    /// The system's turn.
    pub system: Option<String>,
    /// Sampling temperature, if one is sent.
    pub temperature: Option<f64>,
    /// Most new tokens.
    pub max_completion_tokens: usize,
}

/// What a run may spend. It is stopped in time to draw its dataset with what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tokens of prompts and answers together. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9007199254740991_u64))]
    pub tokens: Option<u64>,
    /// Money, in the currency of the teacher's prices; each model that is asked has to have a price. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = LARGEST))]
    pub money: Option<f64>,
    /// Minutes that requests take, added up: of two that are answered side by side, each counts. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = LARGEST))]
    pub minutes: Option<f64>,
}

impl Budget {
    /// Whether nothing is bounded.
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }

    /// The smaller bound of each kind.
    pub fn least(self, other: Self) -> Self {
        let least = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::min);
        Self {
            tokens: self.tokens.into_iter().chain(other.tokens).min(),
            money: least(self.money, other.money),
            minutes: least(self.minutes, other.minutes),
        }
    }
}

impl ApiGenerator {
    fn default_template() -> String {
        "{text}".into()
    }

    fn default_choices() -> usize {
        1
    }

    /// Its arms in full; a teacher without any is asked in one way.
    pub fn arms(&self) -> Vec<Arm> {
        let whole = Arm {
            name: None,
            model: self.model.clone(),
            template: self.template.clone(),
            system: self.system.clone(),
            temperature: self.temperature,
            max_completion_tokens: self.max_completion_tokens,
        };
        let arm = |settings: &ArmSettings| Arm {
            name: Some(settings.name.clone()),
            model: settings.model.clone().unwrap_or_else(|| whole.model.clone()),
            template: settings.template.clone().unwrap_or_else(|| whole.template.clone()),
            system: settings.system.clone().or_else(|| whole.system.clone()),
            temperature: settings.temperature.or(whole.temperature),
            max_completion_tokens: settings.max_completion_tokens.unwrap_or(whole.max_completion_tokens),
        };
        if self.arms.is_empty() { vec![whole] } else { self.arms.iter().map(arm).collect() }
    }

    /// The models that it asks, each once.
    pub fn models(&self) -> Vec<String> {
        let mut models: Vec<String> = vec![];
        for arm in self.arms() {
            if !models.contains(&arm.model) {
                models.push(arm.model);
            }
        }
        models
    }

    /// Most new tokens of an answer.
    pub fn longest(&self) -> usize {
        self.arms().iter().map(|arm| arm.max_completion_tokens).max().unwrap_or_default()
    }

    /// What does not go together in it, by keys below `at`.
    pub(crate) fn faults_below(&self, at: &str) -> Vec<Fault> {
        let mut faults = vec![];
        let mut require = |holds: bool, path: String, message: &str| {
            if !holds {
                faults.push(Fault::new(&path, message));
            }
        };
        let mut names = HashSet::new();
        for (place, arm) in self.arms.iter().enumerate() {
            let path = member(at, &format!("arms[{place}].name"));
            require(names.insert(&arm.name), path, "another arm has this name; give each its own");
        }
        require(
            self.arms.len() != 1,
            member(at, "arms"),
            "of one arm nothing is learnt; add another, or write none",
        );
        for (place, arm) in self.arms().iter().enumerate() {
            let path = match &arm.name {
                Some(_) => member(at, &format!("arms[{place}].template")),
                None => member(at, "template"),
            };
            require(
                self.prompts.is_none() || arm.template.contains("{text}"),
                path,
                "has no place for `prompts`; add `{text}`, or remove `prompts`",
            );
        }
        for key in self.parameters.keys() {
            require(
                !OWN_KEYS.contains(&key.as_str()),
                member(at, &format!("parameters.{key}")),
                "is not one of the further keys: a setting of the generator's own says it, or it is not supported",
            );
        }
        faults
    }
}
