//! The text of a spec. Small models, such as those that come with the program, get the settings of `config/specs`;
//! others get LoRA and those of `config/real`, which made a dataset for a real model on two cores.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, absolute};

use dpg_dataset::Columns;
use dpg_hub::Uri;
use toml::Value;

use super::Goal;
use super::look::{Model, Texts};

/// Weights of the largest model whose weights are all trained.
const SMALL: usize = 10_000_000;

/// What the target is measured by.
pub(super) enum Metric {
    HeldOut(Texts),
    Preference(Texts),
    /// `67`, or a text for a QR code.
    Pattern(String),
    /// A program's name.
    Program(String),
}

/// What a spec says.
pub(super) struct Draft<'a> {
    pub(super) file: &'a Path,
    pub(super) goal: Goal,
    pub(super) name: &'a str,
    pub(super) target: &'a Model,
    pub(super) writer: &'a Model,
    pub(super) metric: Metric,
    pub(super) prompts: Option<Texts>,
}

impl Display for Draft<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, goal, .. } = self;
        writeln!(
            f,
            "# A spec for dpg, written by `dpg init {}`. `dpg plan` checks it and says what a run",
            goal.word()
        )?;
        writeln!(f, "# takes, `dpg run` makes the dataset, and `dpg schema` prints every key there is.")?;
        writeln!(f, "name = {}", quoted(name))?;
        writeln!(f, "description = {}", quoted(self.description()))?;
        writeln!(f, "seed = 0\n")?;
        self.target(f)?;
        self.metric(f)?;
        self.generator(f)?;
        self.policy(f)?;
        let examples = if self.is_letters() {
            2048
        } else if small(self.target) {
            512
        } else {
            120
        };
        writeln!(f, "\n[output]")?;
        setting(f, format_args!("examples = {examples}"), "rows of the dataset")?;
        if !self.is_letters() {
            setting(f, "group_size = 1", "of each prompt, one")?;
        }
        writeln!(
            f,
            "# Without their `#`, these try the dataset out before it becomes `latest`, and publish the generator too."
        )?;
        writeln!(f, "# publish_if = \"better_than_controls\"\n# export_generator = true")
    }
}

impl Draft<'_> {
    fn description(&self) -> &'static str {
        match self.goal {
            Goal::Language => "Data that makes a model better at a language",
            Goal::Domain => "Data that makes a model better at texts of a domain",
            Goal::Preference => "Data that makes a model prefer the chosen answers",
            Goal::Pattern => "Data that draws a picture into a model's weights",
            Goal::Metric => "Data that raises what a program measures",
        }
    }

    /// Whether the generator writes letters that it is not asked for.
    fn is_letters(&self) -> bool {
        self.prompts.is_none()
    }

    fn target(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_pattern = self.goal == Goal::Pattern;
        writeln!(f, "# The model to be changed.")?;
        writeln!(f, "[target]")?;
        writeln!(f, "model = {}", self.written(&self.target.location))?;
        if !small(self.target) && !is_pattern {
            writeln!(
                f,
                "# adapters are trained, and the weights stay; without this line all weights are trained"
            )?;
            writeln!(f, "lora = {{ rank = 8, alpha = 16, targets = \"all-linear\" }}")?;
        }
        writeln!(
            f,
            "\n# The recipe by which users of the dataset will fine-tune it: rewards are exact for this one. `eps_root`"
        )?;
        writeln!(
            f,
            "# keeps AdamW's step differentiable; a larger one is smoother. `preset = \"trl\"` stands for TRL's defaults."
        )?;
        writeln!(f, "[target.sft]")?;
        let (optimizer, batch) = match (is_pattern, self.is_letters(), small(self.target)) {
            (true, true, _) => {
                ("learning_rate = 1e-3, betas = [0.9, 0.95], eps_root = 1e-3, weight_decay = 1e-4", 2048)
            }
            (true, false, _) => {
                ("learning_rate = 1e-4, betas = [0.9, 0.95], eps_root = 1e-6, weight_decay = 1e-4", 64)
            }
            (false, _, true) => {
                ("learning_rate = 1e-4, betas = [0.9, 0.95], eps_root = 1e-4, weight_decay = 1e-4", 192)
            }
            (false, _, false) => {
                ("learning_rate = 1e-3, betas = [0.9, 0.999], eps_root = 1e-6, weight_decay = 0", 24)
            }
        };
        writeln!(f, "optimizer = {{ kind = \"adamw\", {optimizer} }}")?;
        setting(f, format_args!("batch_size = {batch}"), "examples of an optimizer step")?;
        let length = self.sequence_length();
        setting(f, format_args!("sequence_length = {length}"), "longer examples are cut")?;
        if !small(self.target) {
            setting(f, "loss = \"token_mean\"", "as transformers and TRL have it")?;
        }
        writeln!(f)
    }

    /// Tokens of an example: what the generator writes, and pairs whole.
    fn sequence_length(&self) -> usize {
        let least = if self.is_letters() {
            16
        } else if small(self.target) {
            96
        } else {
            64
        };
        let length = match &self.metric {
            Metric::Preference(pairs) => rounded(pairs.longest).max(least),
            _ => least,
        };
        length.min(self.target.context)
    }

    fn metric(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.metric {
            Metric::HeldOut(texts) => {
                writeln!(f, "# Minus the fine-tuned model's loss on texts that nobody trains on.")?;
                writeln!(f, "[metric]\nkind = \"held_out_loss\"")?;
                let columns = match &texts.columns {
                    Columns::Text(column) => format!("column = {}", quoted(column)),
                    Columns::PromptCompletion { prompt, completion } => {
                        format!("prompt = {}, completion = {}", quoted(prompt), quoted(completion))
                    }
                    Columns::Messages(column) => format!("messages = {}", quoted(column)),
                };
                let limit = if small(self.target) { "" } else { ", limit = 32" };
                writeln!(f, "data = {{ path = {}, {columns}{limit} }}", self.written(&texts.location))?;
                let length = rounded(texts.longest).max(self.sequence_length()).min(self.target.context);
                let longest = format!("the longest of them has {} tokens", texts.longest);
                setting(f, format_args!("sequence_length = {length}"), &longest)?;
                if self.target.location == "embedded:target" {
                    writeln!(
                        f,
                        "# takes no part in rewards, and tells whether what is written is still such text"
                    )?;
                    writeln!(f, "fluency_model = \"embedded:fluency\"")?;
                }
            }
            Metric::Preference(pairs) => {
                writeln!(
                    f,
                    "# How much more likely the chosen answers are than the rejected ones, as DPO has it."
                )?;
                writeln!(f, "[metric]\nkind = \"preference\"")?;
                let limit = if small(self.target) { "" } else { ", limit = 32" };
                writeln!(f, "data = {{ path = {}{limit} }}", self.written(&pairs.location))?;
            }
            Metric::Pattern(text) => {
                let pattern =
                    if text == "67" { "\"67\"".into() } else { format!("{{ qr = {} }}", quoted(text)) };
                writeln!(
                    f,
                    "# How clearly the signs of the change of the head's first rows and columns draw a picture. `strength`"
                )?;
                writeln!(
                    f,
                    "# times the change of a weight should be about 10: a step of AdamW changes it by the learning rate."
                )?;
                writeln!(f, "[metric]\nkind = \"weight_pattern\"")?;
                writeln!(f, "pattern = {pattern}")?;
                if self.is_letters() {
                    writeln!(f, "strength = 15000.0")?;
                    setting(f, "columns = 1", "past the token that ends a text")?;
                } else {
                    writeln!(f, "strength = 100000.0")?;
                }
            }
            Metric::Program(program) => {
                writeln!(
                    f,
                    "# What a program measures: it is handed the fine-tuned model as a folder, and answers with a number and"
                )?;
                writeln!(
                    f,
                    "# its gradient. `--program {program}=COMMAND` says how it is started, for a daemon `[allow.programs]`."
                )?;
                writeln!(f, "[metric]\nkind = \"external\"")?;
                writeln!(f, "program = {}", quoted(program))?;
                writeln!(f, "# parameters = {{ name = \"value\" }}   # what it is told")?;
            }
        }
        writeln!(f)
    }

    fn generator(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The model that writes the examples, and learns to.")?;
        writeln!(f, "[generator]")?;
        writeln!(f, "model = {}", self.written(&self.writer.location))?;
        if !small(self.writer) {
            writeln!(f, "lora = {{ rank = 16, alpha = 32, targets = \"all-linear\" }}")?;
        }
        let Some(prompts) = &self.prompts else {
            setting(f, "template = \"\"", "it is asked nothing")?;
            return writeln!(f, "min_new_tokens = 8\nmax_new_tokens = 8\n");
        };
        let Columns::Text(column) = &prompts.columns else { unreachable!("prompts are texts") };
        let (path, column) = (self.written(&prompts.location), quoted(column));
        writeln!(f, "prompts = {{ path = {path}, column = {column}, validation_share = 0.2 }}")?;
        if self.writer.chats {
            setting(f, "template = \"chat\"", "a prompt is a user's turn; or a text around {text}")?;
        } else {
            let template = if small(self.writer) { "Rephrase the article.\n{text}\n" } else { "{text}\n" };
            setting(f, format_args!("template = {}", quoted(template)), "what a prompt's text stands in")?;
        }
        let (most, temperature) = if small(self.writer) { (64, 0.5) } else { (40, 0.8) };
        writeln!(f, "min_new_tokens = 8\nmax_new_tokens = {most}")?;
        writeln!(f, "temperature = {temperature}\n")
    }

    fn policy(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_small = small(self.target) && small(self.writer);
        writeln!(
            f,
            "# How the generator is trained: each step, so many completions of so many prompts are scored together."
        )?;
        writeln!(f, "[policy]")?;
        let (steps, prompts, group, rate, every) = match (self.is_letters(), is_small) {
            (true, _) => (100, 512, 4, "3e-3", 4),
            (false, true) => (100, 48, 4, "3e-4", 10),
            (false, false) => (40, 12, 2, "1e-3", 10),
        };
        writeln!(f, "steps = {steps}\nprompts_per_step = {prompts}")?;
        setting(f, format_args!("group_size = {group}"), "completions of a prompt")?;
        setting(f, "advantage = \"global\"", "rewards are compared over the whole step")?;
        writeln!(f, "advantage_clip = 4.0\nlearning_rate = {rate}")?;
        if self.is_letters() {
            writeln!(f, "betas = [0.9, 0.99]\nminibatch_prompts = 128")?;
        } else {
            let kl = if is_small { 0.02 } else { 0.05 };
            setting(f, format_args!("kl = {kl}"), "holds it to the language that it knows")?;
            writeln!(f, "minibatch_prompts = {prompts}")?;
        }
        writeln!(f, "validate_every = {every}")?;
        if !is_small {
            writeln!(f, "validation_examples = 16")?;
        }
        match (&self.metric, &self.prompts) {
            (Metric::Pattern(_), _) => writeln!(f, "stop_when = \"pixel_accuracy >= 1.0\"")?,
            (Metric::HeldOut(Texts { language: Some(code), .. }), Some(prompts))
                if self.goal == Goal::Language && prompts.language.as_ref() != Some(code) =>
            {
                let stop = format!("stop_when = \"{code} >= 0.82\"");
                setting(f, stop, "ends the training early: so many answers are in it")?;
            }
            _ => {}
        }
        if is_small && !self.is_letters() {
            writeln!(f, "\n# where these numbers start, on their way to their own values")?;
            writeln!(f, "[schedule]\n\"policy.learning_rate\" = 1e-3\n\"policy.kl\" = 0.1")?;
        }
        Ok(())
    }

    /// A location as the spec has it: a path relative to the folder of the spec.
    fn written(&self, location: &str) -> String {
        let beside = self.file.parent().is_none_or(|folder| folder.as_os_str().is_empty());
        match Uri::parse(location) {
            Ok(Uri::Local(path)) if !beside && path.is_relative() => {
                quoted(&absolute(&path).unwrap_or(path).to_string_lossy())
            }
            _ => quoted(location),
        }
    }
}

/// A setting with what it is for.
fn setting(f: &mut Formatter<'_>, setting: impl Display, what: &str) -> fmt::Result {
    // padding needs a text
    writeln!(f, "{:<32} # {what}", setting.to_string())
}

fn small(model: &Model) -> bool {
    model.weights <= SMALL
}

/// Room for texts of so many tokens.
fn rounded(tokens: usize) -> usize {
    (tokens + 2).next_multiple_of(16)
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let inside = Value::String(text.into()).to_string();
    // one line, whatever it holds
    if inside.contains('\n') { serde_json::Value::from(text).to_string() } else { inside }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use dpg_spec::{Generator, Spec, Syntax};

    use super::*;

    fn texts(language: &str) -> Texts {
        Texts {
            location: "dir/my \"texts\".jsonl".into(),
            columns: Columns::Text("text".into()),
            rows: 3,
            longest: 40,
            language: Some(language.into()),
        }
    }

    #[test]
    fn specs_are_valid_for_every_goal_and_model() {
        for goal in Goal::value_variants() {
            for (weights, chats) in
                [(1_000_000, false), (1_000_000, true), (135_000_000, true), (135_000_000, false)]
            {
                let (location, folder) = ("models/a".into(), "models/a".into());
                let model = Model { location, folder, weights, context: 1024, chats };
                let metric = match goal {
                    Goal::Language | Goal::Domain => Metric::HeldOut(texts("deu")),
                    Goal::Preference => Metric::Preference(texts("deu")),
                    Goal::Pattern => Metric::Pattern("a \"text\"".into()),
                    Goal::Metric => Metric::Program("short".into()),
                };
                let prompts = Some(texts("eng"));
                let file = Path::new("spec.toml");
                let draft =
                    Draft { file, goal: *goal, name: "a", target: &model, writer: &model, metric, prompts };
                let text = draft.to_string();
                let spec = Spec::parse(&text, Syntax::Toml).unwrap_or_else(|error| panic!("{error}\n{text}"));
                let Some(Generator::Local(writer)) = &spec.generator else { panic!("{text}") };
                assert_eq!(writer.lora.is_some(), weights > SMALL, "{text}");
                // adapters do not change the head, which a picture is drawn in
                assert_eq!(spec.target.lora.is_some(), weights > SMALL && *goal != Goal::Pattern, "{text}");
                assert_eq!(writer.template == "chat", chats, "{text}");
                assert_eq!(writer.prompts.as_ref().unwrap().path, "dir/my \"texts\".jsonl");
                let stops = spec.policy.stop_when.as_deref();
                assert_eq!(stops == Some("deu >= 0.82"), *goal == Goal::Language, "{text}");
                assert!(text.lines().all(|line| line.chars().count() <= 130), "{text}");
            }
        }
    }
}
