//! Rules between keys, and those that a schema cannot say.

use crate::schedule;
use crate::{
    Advantage, ApiGenerator, Fault, Format, Generator, Goal, Length, LocalGenerator, Loss, Policy, Prompts,
    Reward, Spec, Target,
};

/// Problems of a spec whose every single value is in order.
pub(crate) fn faults(spec: &Spec) -> Vec<Fault> {
    let mut rules = Rules(Vec::new());
    rules.require(
        is_name(&spec.name),
        "name",
        "expected 1 to 63 of `a-z`, `0-9` and `-`, the first not `-`, as in `spanish-v2`",
    );
    rules.target(&spec.target);
    rules.0.extend(spec.metric.faults_below("metric"));
    if let Some(generator) = &spec.generator {
        rules.generator(generator, "generator", spec.output.format);
        rules.learning(generator, spec);
    }
    rules.policy(&spec.policy);
    let prompts = spec.generator.as_ref().and_then(Generator::prompts);
    let has_classes = prompts.is_some_and(|prompts| prompts.classes.is_some());
    rules.0.extend(spec.output.faults(&spec.policy, has_classes));
    rules.0.extend(schedule::faults(spec));
    rules.0
}

struct Rules(Vec<Fault>);

impl Rules {
    fn require(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.0.push(Fault::new(path, message));
        }
    }

    fn target(&mut self, target: &Target) {
        self.model(&target.model, "target.model");
        let sft = &target.sft;
        if let Some((key, message)) = sft.optimizer.settings().fault() {
            self.require(false, &format!("target.sft.optimizer.{key}"), message);
        }
        self.require(
            sft.warmup_steps == 0 || sft.warmup_ratio == 0.0,
            "target.sft.warmup_ratio",
            "is given beside `warmup_steps`, which says the same; remove one",
        );
        self.require(
            !sft.packing || sft.loss == Loss::TokenMean,
            "target.sft.packing",
            "needs `loss = \"token_mean\"`, since trainers that pack take the mean over the tokens of a step",
        );
    }

    fn generator(&mut self, generator: &Generator, at: &str, format: Format) {
        match generator {
            Generator::Local(local) => self.local(local, at),
            Generator::Api(api) => {
                self.api(api, at, format);
                self.prompts(api.prompts.as_ref(), at);
            }
            Generator::Rubric(rubric) => {
                self.local(&rubric.writer, &format!("{at}.writer"));
                self.0.extend(rubric.faults_below(at));
                self.api(&rubric.teacher, &format!("{at}.teacher"), format);
            }
            Generator::Mix(mix) => {
                self.0.extend(mix.faults_below(at));
                self.prompts(mix.prompts.as_ref(), at);
                mix.placed(at).for_each(|(at, member)| self.generator(member, &at, format));
            }
        }
    }

    fn api(&mut self, api: &ApiGenerator, at: &str, format: Format) {
        self.0.extend(api.faults_below(at));
        self.require(
            !api.keep_reasoning || format == Format::Messages,
            &format!("{at}.keep_reasoning"),
            "has its place in an assistant's turn; write `output.format = \"messages\"`, or remove it",
        );
    }

    /// What a run learns, and what else it does with what writes.
    fn learning(&mut self, generator: &Generator, spec: &Spec) {
        let (length, arms) = (spec.output.length.as_ref(), generator.arms());
        let learns = match generator {
            Generator::Mix(mix) => mix.learn || arms.len() > mix.members.len(),
            _ => !arms.is_empty(),
        };
        self.require(
            learns
                || generator.local().is_some()
                || spec.policy.steps == 0
                || length.is_some_and(|length| length.learn)
                || generator.learnt_classes().is_some(),
            "policy.steps",
            "a teacher without `arms` learns nothing, and each step would be paid for; write 0, or give `generator.arms`",
        );
        if generator.learnt_classes().is_some() {
            let of = if matches!(generator, Generator::Rubric(_)) { "generator.writer" } else { "generator" };
            self.classes(spec, &format!("{of}.prompts.classes.learn"));
        }
        self.require(
            arms.is_empty() || !length.is_some_and(Length::is_told),
            "output.length",
            "a `template` of each class does not go with `generator.arms` or `generator.members`: a row is asked for in one \
             way; remove one",
        );
        self.require(
            generator.local().is_some() || !spec.output.export_generator,
            "output.export_generator",
            "a teacher behind an API has no weights that could be published; remove it",
        );
    }

    /// What learning the shares of the classes of prompts takes.
    fn classes(&mut self, spec: &Spec, key: &str) {
        self.require(spec.policy.steps > 0, key, "nothing is learnt in no steps; raise `policy.steps`");
        self.require(
            spec.policy.advantage == Advantage::Global,
            key,
            "takes `policy.advantage = \"global\"`: inside of a group all rows are of one class",
        );
        self.require(
            !spec.output.length.as_ref().is_some_and(Length::is_told),
            key,
            "does not go with a `template` of each class of `output.length`: one thing is learnt of how a row is asked for; \
             remove one",
        );
    }

    fn prompts(&mut self, prompts: Option<&Prompts>, at: &str) {
        if let Some(prompts) = prompts {
            self.file(&prompts.path, &format!("{at}.prompts.path"));
            let classes = prompts.classes.as_ref();
            self.0.extend(classes.and_then(|classes| classes.fault(&format!("{at}.prompts.classes"))));
        }
    }

    fn local(&mut self, generator: &LocalGenerator, at: &str) {
        let key = |key: &str| format!("{at}.{key}");
        self.model(&generator.model, &key("model"));
        self.prompts(generator.prompts.as_ref(), at);
        if generator.prompts.is_some() {
            self.require(
                generator.template == "chat" || generator.template.contains("{text}"),
                &key("template"),
                "has no place for `prompts`; add `{text}`, write `chat`, or remove `prompts`",
            );
        }
        self.require(
            generator.min_new_tokens <= generator.max_new_tokens,
            &key("min_new_tokens"),
            &format!(
                "`{}` is more than `max_new_tokens`, which is {}; lower one or raise the other",
                generator.min_new_tokens, generator.max_new_tokens
            ),
        );
    }

    fn policy(&mut self, policy: &Policy) {
        self.require(
            policy.group_size >= 2 || policy.advantage == Advantage::Global,
            "policy.group_size",
            "expected at least 2 unless `advantage` is `global`: groups are compared inside",
        );
        self.require(
            policy.group_size.saturating_mul(policy.prompts_per_step) >= 2,
            "policy.prompts_per_step",
            "a single rollout has nothing to be compared with; raise it or `group_size`",
        );
        if let Some(Err(fault)) = policy.stop_when.as_ref().map(|goal| goal.parse::<Goal>()) {
            self.require(false, "policy.stop_when", &fault);
        }
        let datasets =
            if policy.cross_group_batching { policy.datasets_per_step } else { policy.prompts_per_step };
        self.require(
            policy.datasets_per_step <= policy.prompts_per_step
                && (policy.cross_group_batching || policy.datasets_per_step == 1),
            "policy.datasets_per_step",
            "expected at most `prompts_per_step`, and 1 if `cross_group_batching` is false",
        );
        self.require(
            policy.reward != Reward::DatasetMetric || (datasets > 1 && policy.advantage == Advantage::Global),
            "policy.reward",
            "`dataset_metric` gives all examples of a dataset the same: it takes `datasets_per_step` above 1 \
             and `advantage = \"global\"`",
        );
        self.require(
            policy.minibatch_prompts.is_none_or(|prompts| prompts <= policy.prompts_per_step),
            "policy.minibatch_prompts",
            &format!("expected at most `prompts_per_step`, which is {}", policy.prompts_per_step),
        );
    }

    fn model(&mut self, uri: &str, path: &str) {
        self.0.extend(model_problem(uri, path));
    }

    fn file(&mut self, uri: &str, path: &str) {
        self.0.extend(file_problem(uri, path));
    }
}

/// What is wrong with the location of a model.
pub(crate) fn model_problem(uri: &str, path: &str) -> Option<Fault> {
    let right = is_local(uri) || ["embedded:", "hf:", "s3://"].iter().any(|scheme| uri.starts_with(scheme));
    (!right).then(|| {
        let expected = "`embedded:NAME`, a folder, `hf:org/name@rev` and `s3://bucket/prefix`";
        Fault::new(path, format!("`{uri}` is not one of {expected}"))
    })
}

/// What is wrong with the location of a file.
pub(crate) fn file_problem(uri: &str, path: &str) -> Option<Fault> {
    let right = is_local(uri) || ["embedded:", "s3://"].iter().any(|scheme| uri.starts_with(scheme));
    (!right).then(|| {
        let expected = "a file's path, `s3://bucket/key` and `embedded:NAME`";
        Fault::new(path, format!("`{uri}` is not one of {expected}"))
    })
}

pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-')
}

/// Whether a location has no `scheme:` before it, so that it is a path on this machine.
pub(crate) fn is_local(uri: &str) -> bool {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
