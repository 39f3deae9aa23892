//! A generator of several: each row is written by one of them, in shares that are fixed or learnt.

use std::collections::HashSet;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::{ApiGenerator, Fault, Generator, LARGEST, LocalGenerator, NAME, Prompts, syntax::member};

/// Most members of a mix.
const MOST_MEMBERS: usize = 64;

/// The kind of a generator of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixKind {
    /// Several generators.
    Mix,
}

fn mix_kind(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": "mix" })
}

/// `kind = "mix"`: several generators write the rows of one dataset, teachers behind APIs and at most one model of this
/// machine. Each learns from its own rows as it would alone; `learn` makes their shares a policy too, as a teacher's arms
/// are. The column `arm` of the dataset's record says who wrote a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixGenerator {
    /// `mix`.
    #[schemars(schema_with = "mix_kind")]
    pub kind: MixKind,
    /// The prompts of all members, one per row. Without it `{text}` stands for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The generators, two or more.
    #[schemars(length(max = MOST_MEMBERS))]
    pub members: Vec<Member>,
    /// The shares are learnt, from equal ones: a member whose rows have higher rewards writes more. Default false.
    #[serde(default)]
    pub learn: bool,
    /// Step size of the shares, and of the arms of teachers: a few logits take larger steps than weights do. Default:
    /// that of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub learning_rate: Option<f64>,
}

/// One of several generators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name, in reports and in the column `arm` of the dataset's record.
    #[schemars(length(min = 1, max = NAME))]
    pub name: String,
    /// Its share of the rows, above 0; all of them make 1. Needed unless `learn` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1))]
    pub share: Option<f64>,
    /// What it is, as a generator of its own would be written, without prompts.
    pub generator: Generator,
}

impl Member {
    /// What one of its arms is called among those of all members.
    pub fn arm(&self, arm: &str) -> String {
        format!("{}: {arm}", self.name)
    }
}

/// The generators of members, each with its place below a key.
pub(crate) fn placed_mut<'a>(
    members: &'a mut [Member],
    at: &str,
) -> impl Iterator<Item = (String, &'a mut Generator)> {
    let members = members.iter_mut().enumerate();
    members.map(move |(number, one)| (place(at, number), &mut one.generator))
}

fn place(at: &str, number: usize) -> String {
    member(at, &format!("members[{number}].generator"))
}

impl MixGenerator {
    /// The share that each member has at first.
    pub fn shares(&self) -> Vec<f64> {
        let equal = 1.0 / self.members.len().max(1) as f64;
        self.members.iter().map(|member| member.share.filter(|_| !self.learn).unwrap_or(equal)).collect()
    }

    /// The settings of the model on this machine, if a member has one.
    pub(crate) fn local(&self) -> Option<&LocalGenerator> {
        self.members.iter().find_map(|member| member.generator.local())
    }

    /// Each member's generator with its place.
    pub(crate) fn placed(&self, at: &str) -> impl Iterator<Item = (String, &Generator)> {
        self.members.iter().enumerate().map(move |(number, one)| (place(at, number), &one.generator))
    }

    /// What does not go together in it, apart from what each member is.
    pub(crate) fn faults_below(&self, at: &str) -> Vec<Fault> {
        let mut faults = vec![];
        let mut require = |holds: bool, key: &str, message: &str| {
            if !holds {
                faults.push(Fault::new(member(at, key), message));
            }
        };
        require(self.members.len() > 1, "members", "of one member there is nothing to mix; add another");
        let (mut names, mut teachers) = (HashSet::new(), HashSet::new());
        for (place, one) in self.members.iter().enumerate() {
            let key = |key: &str| format!("members[{place}].{key}");
            require(names.insert(&one.name), &key("name"), "another member has this name; give each its own");
            require(
                one.share.is_some() != self.learn,
                &key("share"),
                "a member needs its share, unless `learn` is set: then all begin with the same, and none is given",
            );
            require(
                !matches!(one.generator, Generator::Mix(_)),
                &key("generator.kind"),
                "a mix is not a member of another; name its members here",
            );
            require(
                one.generator.prompts().is_none(),
                &key("generator.prompts"),
                "the prompts are those of all members; move them to `generator.prompts`",
            );
            let of_one = one.generator.teachers();
            require(
                of_one.iter().all(|teacher: &&ApiGenerator| teachers.insert(&teacher.teacher)),
                &key("generator.teacher"),
                "another member asks this teacher; several ways to ask one are its `arms`",
            );
        }
        let models = self.members.iter().filter(|one| one.generator.local().is_some()).count();
        require(
            models < 2,
            "members",
            "two of them are models of this machine, and one at most can be trained",
        );
        let shares: f64 = self.shares().iter().sum();
        let message = format!("all shares together make {shares}, expected 1");
        require((shares - 1.0).abs() < 1e-6, "members", &message);
        faults
    }
}
