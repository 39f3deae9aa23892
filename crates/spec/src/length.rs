//! How long the rows of a dataset should be.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gates::pattern_fault;
use crate::generator::{TEMPLATE, filled};
use crate::{Fault, LARGEST, MOST_TOKENS, NAME, Policy};

/// Most classes of lengths.
const MOST_CLASSES: usize = 64;

/// How long what the generator writes should be, in tokens of the target's tokenizer: `mix` or `quantiles` say it, and
/// three means bring it about, alone or together. `template` of each class tells the generator, `quotas` choose among
/// what is drawn for the dataset, and `advantage` trains the generator towards it. With `learn` the shares are those that
/// serve the metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Length {
    /// Classes of lengths with their shares. Default: those that `quantiles` make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_CLASSES))]
    pub mix: Vec<LengthClass>,
    /// Tokens by quantile, as in `{ p10 = 20, p50 = 60, p90 = 200 }`: a tenth of the rows has up to 20. Default: those
    /// that `mix` makes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = MOST_CLASSES,
        "additionalProperties" = { "type": "integer", "minimum": 0, "maximum": MOST_TOKENS }
    ))]
    pub quantiles: BTreeMap<String, usize>,
    /// What shares are of. Default `rows`.
    #[serde(default)]
    pub of: SharesOf,
    /// A row of the dataset that is in no class, or whose class has its share, is left out, and others are drawn in its
    /// place, as far as `output.draws` goes. Default true.
    #[serde(default = "Length::default_quotas")]
    pub quotas: bool,
    /// What a rollout of a wrong length loses at most, in standard deviations of the step's rewards; 0 for nothing. One
    /// that was told its class loses this much times how far outside it is, relative to the bound and at most 1. Where no
    /// class is told, it loses this much times what its class has above its share in the step, or gains what that lacks:
    /// so the shares are trained, whatever single rollouts do. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = LARGEST))]
    pub advantage: f64,
    /// The shares are learnt, from equal ones, as a teacher's arms are: the class that each row is asked for is drawn, and
    /// one whose rows have higher rewards becomes likelier. It takes a `template` of each class. Default false.
    #[serde(default)]
    pub learn: bool,
    /// Long rows get a short sibling. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub siblings: Option<Siblings>,
}

/// A class of lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthClass {
    /// Its name, in reports, and in the column `arm` of the dataset's record if the generator was told the class.
    #[schemars(length(min = 1, max = NAME))]
    pub name: String,
    /// Fewest tokens. Default 0.
    #[serde(default)]
    #[schemars(range(max = MOST_TOKENS))]
    pub min: usize,
    /// Most tokens. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MOST_TOKENS))]
    pub max: Option<usize>,
    /// Its share, above 0; all of them make 1. Needed unless `learn` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1))]
    pub share: Option<f64>,
    /// What the generator is told: it stands for the row's text in the generator's own template, around `{text}`, as in
    /// `"{text}\nAnswer in one sentence."`. All classes have one, or none has. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = TEMPLATE))]
    pub template: Option<String>,
    /// The class of the prompts that it is for, among those of `generator.prompts.classes`: each has a mix of its own, and
    /// shares are among its rows. All classes of lengths name one, or none does. Default: all prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME))]
    pub prompts: Option<String>,
}

/// What shares are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharesOf {
    /// Of rows.
    #[default]
    Rows,
    /// Of the tokens of all rows.
    Tokens,
}

/// Short siblings of long rows, to be trained on beside them (long-short mixture, arXiv 2505.03469): half of the rows are
/// drawn as ever, and each of those that is long is written anew by the generator, and published beside it if that is
/// shorter and has the same answer. The sibling answers the prompt of the long row, and is in its group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Siblings {
    /// A row of more tokens is long. Default 0: each is.
    #[serde(default)]
    #[schemars(range(max = MOST_TOKENS))]
    pub over: usize,
    /// What the generator is told, around `{text}`, the row of the prompts, and `{answer}`, what it wrote. It stands for
    /// the row's text in the generator's own template.
    #[schemars(length(min = 1, max = TEMPLATE))]
    pub template: String,
    /// A regular expression that finds the answer; its first group is the answer if it has one. The last place where it
    /// is found counts, and both rows must have the same there. Default: nothing is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub answer: Option<String>,
}

impl Siblings {
    /// What the generator is told of an answer to a row.
    pub fn told(&self, answer: &str, row: &str) -> String {
        filled(&self.template, row, "{answer}", answer)
    }
}

impl Length {
    fn default_quotas() -> bool {
        true
    }

    /// Its classes, those of a class of prompts side by side.
    pub fn classes(&self) -> Vec<LengthClass> {
        self.by_prompts().into_iter().flat_map(|(_, classes)| classes).collect()
    }

    /// As they are written, or from short to long as quantiles make them.
    fn listed(&self) -> Vec<LengthClass> {
        if !self.mix.is_empty() {
            return self.mix.clone();
        }
        let marks = self.marks();
        let (mut classes, mut below, mut min) = (vec![], 0.0, 0);
        for &(quantile, tokens) in &marks {
            let name = format!("up to p{quantile}");
            let share = Some((f64::from(quantile) - below) / 100.0);
            classes.push(LengthClass { name, min, max: Some(tokens), share, template: None, prompts: None });
            (below, min) = (f64::from(quantile), tokens + 1);
        }
        if let Some((quantile, _)) = marks.last() {
            let name = format!("over p{quantile}");
            let share = Some((100.0 - below) / 100.0);
            classes.push(LengthClass { name, min, max: None, share, template: None, prompts: None });
        }
        classes
    }

    /// The quantiles in order, and their tokens.
    pub fn marks(&self) -> Vec<(u8, usize)> {
        let mark = |(name, tokens): (&String, &usize)| Some((quantile(name)?, *tokens));
        let mut marks: Vec<_> = self.quantiles.iter().filter_map(mark).collect();
        marks.sort_unstable();
        marks
    }

    /// Whether the generator is told the class of each row.
    pub fn is_told(&self) -> bool {
        self.mix.iter().any(|class| class.template.is_some())
    }

    /// Whether each class of prompts has a mix of its own.
    pub fn is_by_prompts(&self) -> bool {
        self.mix.iter().any(|class| class.prompts.is_some())
    }

    /// The classes of each mix, with the class of prompts that it is for; there is one for all prompts, or one for each
    /// class that is named.
    pub fn by_prompts(&self) -> Vec<(Option<String>, Vec<LengthClass>)> {
        let mut mixes: Vec<(Option<String>, Vec<LengthClass>)> = vec![];
        for class in self.listed() {
            match mixes.iter_mut().find(|(of, _)| *of == class.prompts) {
                Some((_, classes)) => classes.push(class),
                None => mixes.push((class.prompts.clone(), vec![class])),
            }
        }
        mixes
    }

    /// What does not go together in it; `has_classes` says whether prompts have classes.
    pub(crate) fn faults(&self, policy: &Policy, has_classes: bool) -> Vec<Fault> {
        let mut faults = vec![];
        let mut require = |holds: bool, key: &str, message: &str| {
            if !holds {
                faults.push(Fault::new(format!("output.length{key}"), message));
            }
        };
        let classes = self.classes();
        require(
            self.mix.is_empty() || self.quantiles.is_empty(),
            ".quantiles",
            "stands beside `mix`, which says the same in another way; remove one",
        );
        require(
            !classes.is_empty() || self.siblings.is_some(),
            "",
            "says nothing: give `mix`, `quantiles` or `siblings`",
        );
        let unknown = self.quantiles.keys().find(|name| quantile(name).is_none());
        if let Some(name) = unknown {
            require(false, &format!(".quantiles.{name}"), "expected `p1` to `p99`, as in `p50`");
        }
        require(
            self.marks().windows(2).all(|pair| pair[0].1 < pair[1].1),
            ".quantiles",
            "a higher quantile has to have more tokens",
        );
        let mut names = HashSet::new();
        for (place, class) in self.mix.iter().enumerate() {
            let key = |key: &str| format!(".mix[{place}].{key}");
            require(
                names.insert(&class.name),
                &key("name"),
                "another class has this name; give each its own",
            );
            require(
                class.max.is_none_or(|max| class.min <= max),
                &key("max"),
                "is less than `min`: no row is in this class; raise it",
            );
            let shared =
                self.mix[..place].iter().filter(|other| other.prompts == class.prompts).any(|other| {
                    class.min <= other.max.unwrap_or(usize::MAX)
                        && other.min <= class.max.unwrap_or(usize::MAX)
                });
            require(!shared, &key("min"), "has tokens that an earlier class has too");
            require(
                class.share.is_some() || self.learn,
                &key("share"),
                "a class needs its share, unless `learn` is set",
            );
            require(
                class.template.is_some() == self.is_told(),
                &key("template"),
                "either all classes have a template or none has",
            );
            require(
                class.prompts.is_some() == self.is_by_prompts(),
                &key("prompts"),
                "either all classes of lengths name a class of prompts or none does",
            );
        }
        let of_each = if self.learn { vec![] } else { self.by_prompts() };
        for (of, classes) in &of_each {
            let shares: f64 = classes.iter().filter_map(|class| class.share).sum();
            let of = of.as_ref().map_or(String::new(), |of| format!(" of the class `{of}` of prompts"));
            require(
                (shares - 1.0).abs() < 1e-6,
                ".mix",
                &format!("all shares{of} together make {shares}, expected 1"),
            );
        }
        require(
            !self.learn || !self.is_by_prompts(),
            ".learn",
            "does not go with classes of lengths that name a class of prompts; remove it or `prompts`",
        );
        require(
            !self.is_by_prompts() || has_classes,
            ".mix[0].prompts",
            "takes `generator.prompts.classes`, which says what the classes of prompts are",
        );
        require(
            !self.learn || (self.is_told() && classes.len() > 1),
            ".learn",
            "takes two classes or more, each with a `template`: what is learnt is which to ask for",
        );
        require(
            !self.learn || policy.steps > 0,
            ".learn",
            "nothing is learnt in no steps; raise `policy.steps`",
        );
        require(
            classes.is_empty() || self.quotas || self.advantage > 0.0 || self.is_told(),
            "",
            "says what the lengths should be and nothing that brings it about; set `quotas`, `advantage` or a `template` of \
             each class",
        );
        if let Some(siblings) = &self.siblings {
            require(
                siblings.template.contains("{answer}"),
                ".siblings.template",
                "has no place for what is to be written anew; add `{answer}`",
            );
            require(
                !self.is_told(),
                ".siblings",
                "do not go with a `template` of classes, which would stand around theirs; remove one",
            );
            let pattern = siblings.answer.as_ref();
            faults
                .extend(pattern.and_then(|pattern| pattern_fault("output.length.siblings.answer", pattern)));
        }
        faults
    }
}

impl LengthClass {
    /// Whether it is for prompts of a class.
    pub fn is_for(&self, prompts: Option<&str>) -> bool {
        self.prompts.is_none() || self.prompts.as_deref() == prompts
    }

    /// Whether a row of so many tokens is in it, which answers a prompt of some class.
    pub fn has(&self, tokens: usize, prompts: Option<&str>) -> bool {
        self.is_for(prompts) && tokens >= self.min && self.max.is_none_or(|max| tokens <= max)
    }

    /// How far so many tokens are outside of it, relative to the bound that they miss, and at most 1.
    pub fn distance(&self, tokens: usize) -> f64 {
        let relative = |miss: usize, bound: usize| (miss as f64 / bound.max(1) as f64).min(1.0);
        match self.max {
            _ if tokens < self.min => relative(self.min - tokens, self.min),
            Some(max) if tokens > max => relative(tokens - max, max),
            _ => 0.0,
        }
    }
}

/// The quantile that a name says, in hundredths.
fn quantile(name: &str) -> Option<u8> {
    let digits = name.strip_prefix('p')?;
    let value: u8 = digits.parse().ok()?;
    ((1..=99).contains(&value) && value.to_string() == digits).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(text: &str) -> Length {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn quantiles_make_classes() {
        let classes = length("quantiles = { p10 = 20, p90 = 200, p50 = 60 }").classes();
        let told = |class: &LengthClass| {
            format!("{} {}-{:?} {:.2}", class.name, class.min, class.max, class.share.unwrap())
        };
        let classes: Vec<_> = classes.iter().map(told).collect();
        assert_eq!(
            classes,
            [
                "up to p10 0-Some(20) 0.10",
                "up to p50 21-Some(60) 0.40",
                "up to p90 61-Some(200) 0.40",
                "over p90 201-None 0.10"
            ]
        );
    }

    #[test]
    fn what_does_not_go_together_is_told_by_its_key() {
        let class = "{ name = 'a', max = 9, share = 1.0 }";
        for (text, expected) in [
            ("quotas = true", "output.length: says nothing"),
            ("quantiles = { p5 = 3, q5 = 4 }", "output.length.quantiles.q5: expected `p1`"),
            ("quantiles = { p5 = 3, p10 = 3 }", "output.length.quantiles: a higher"),
            (
                "mix = [{ name = 'a', max = 9, share = 0.5 }]",
                "output.length.mix: all shares together make 0.5",
            ),
            ("mix = [{ name = 'a', max = 9 }]", "output.length.mix[0].share: a class needs"),
            (
                "mix = [{ name = 'a', max = 9, share = 0.5 }, { name = 'a', min = 9, share = 0.5 }]",
                "output.length.mix[1].name: another",
            ),
            (
                "mix = [{ name = 'a', max = 9, share = 0.5 }, { name = 'b', min = 9, share = 0.5 }]",
                "output.length.mix[1].min: has tokens",
            ),
            (&format!("mix = [{class}]\nlearn = true"), "output.length.learn: takes two"),
            (&format!("mix = [{class}]\nquotas = false"), "output.length: says what"),
            (
                "mix = [{ name = 'a', max = 9, share = 1.0, prompts = 'easy' }]",
                "output.length.mix[0].prompts: takes `generator.prompts.classes`",
            ),
            (
                "mix = [{ name = 'a', max = 9, share = 0.5, prompts = 'easy' }, { name = 'b', max = 9, share = 0.5 }]",
                "output.length.mix[1].prompts: either all",
            ),
            (
                "mix = [{ name = 'a', max = 9, share = 0.5, prompts = 'easy' }, { name = 'b', max = 9, share = 1.0, prompts = \
                 'hard' }]",
                "output.length.mix: all shares of the class `easy` of prompts together make 0.5",
            ),
            ("siblings = { template = '{text}' }", "output.length.siblings.template: has no place"),
            ("siblings = { template = '{answer}', answer = '(' }", "output.length.siblings.answer: is not"),
        ] {
            let faults = length(text).faults(&Policy::default(), false);
            let faults: Vec<_> =
                faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
            assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{text}: {faults:?}");
        }
        let fine = |text: &str| assert_eq!(length(text).faults(&Policy::default(), true), []);
        fine(&format!("mix = [{class}]"));
        fine(
            "mix = [{ name = 'a', max = 9, share = 1.0, prompts = 'easy' }, { name = 'b', max = 9, share = 1.0, prompts = \
             'hard' }]",
        );
    }

    #[test]
    fn distances_are_relative_to_the_bound() {
        let class = length("mix = [{ name = 'a', min = 10, max = 20, share = 1.0 }]").mix.remove(0);
        assert_eq!([5, 10, 20, 25, 90].map(|tokens| class.distance(tokens)), [0.5, 0.0, 0.0, 0.25, 1.0]);
    }
}
