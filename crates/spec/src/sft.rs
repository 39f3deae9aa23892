//! The fine-tuning recipe of the target.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{AdamW, LARGEST, MOST_ROLLOUTS, MOST_STEPS, MOST_TOKENS, Optimizer};

/// The fine-tuning recipe A(D): users fine-tune the target on the dataset with it.
// keys below `append_eos` came later: a daemon that knows none of them runs a spec that says none
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sft {
    /// The optimizer and its settings. Default AdamW at the paper's settings.
    pub optimizer: Optimizer,
    /// Examples per optimizer step. Default 1024. Gradient accumulation is a larger batch: transformers
    /// divides by the tokens of all the batches that make a step, so multiply the two.
    #[schemars(range(min = 1, max = MOST_ROLLOUTS))]
    pub batch_size: usize,
    /// Passes over the dataset. Default 1.
    #[schemars(range(min = 1, max = MOST_STEPS))]
    pub epochs: usize,
    /// Longest example in tokens; longer ones are cut. Default 128.
    #[schemars(range(min = 2, max = MOST_TOKENS))]
    pub sequence_length: usize,
    /// Which tokens count in an example's loss. Default `all`.
    pub loss_on: LossOn,
    /// A seeded permutation of the examples in every epoch; `false` keeps file order. Default true.
    pub shuffle: bool,
    /// Append the end-of-sequence token to every example. Default true.
    pub append_eos: bool,
    /// What the loss of a step is the mean over. Default `example_mean`.
    #[serde(skip_serializing_if = "is_default")]
    pub loss: Loss,
    /// How the learning rate changes over the steps of a run, as transformers' `lr_scheduler_type` of that
    /// name. Default `constant`.
    #[serde(skip_serializing_if = "is_default")]
    pub lr_schedule: LrSchedule,
    /// Steps in which the learning rate rises from 0; the first step has 0. Default 0.
    #[schemars(range(max = MOST_STEPS))]
    #[serde(skip_serializing_if = "is_default")]
    pub warmup_steps: usize,
    /// The same as a share of the run's steps, rounded up. Default 0.
    #[schemars(range(min = 0, max = 1))]
    #[serde(skip_serializing_if = "is_default")]
    pub warmup_ratio: f64,
    /// A longer gradient is scaled to this norm before the step, as `torch.nn.utils.clip_grad_norm_` does;
    /// 0 leaves all as they are. Default 0.
    #[schemars(range(min = 0, max = LARGEST))]
    #[serde(skip_serializing_if = "is_default")]
    pub max_grad_norm: f64,
    /// Which parameters the optimizer's weight decay acts on. Default `all`.
    #[serde(skip_serializing_if = "is_default")]
    pub decay_on: DecayOn,
    /// Several examples share a row of at most `sequence_length` tokens, without seeing each other, and `batch_size`
    /// counts rows: TRL's `packing=True`. It needs `loss = "token_mean"`. Default false.
    #[serde(skip_serializing_if = "is_default")]
    pub packing: bool,
    /// Values for the keys that are not given here. Reading a spec writes them out and leaves this key out.
    #[serde(skip_serializing)]
    pub preset: Option<Preset>,
}

impl Default for Sft {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::default(),
            batch_size: 1024,
            epochs: 1,
            sequence_length: 128,
            loss_on: LossOn::All,
            shuffle: true,
            append_eos: true,
            loss: Loss::ExampleMean,
            lr_schedule: LrSchedule::Constant,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            max_grad_norm: 0.0,
            decay_on: DecayOn::All,
            packing: false,
            preset: None,
        }
    }
}

impl Sft {
    /// Optimizer steps of a run over so many examples of so many tokens each; about as many if they are packed.
    pub fn steps(&self, examples: usize, tokens: f64) -> usize {
        let packed = (examples as f64 * tokens / self.sequence_length as f64).ceil() as usize;
        let rows = if self.packing { packed.min(examples) } else { examples };
        self.epochs * rows.div_ceil(self.batch_size)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which tokens count in an example's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Every token that has a predecessor.
    All,
    /// The tokens of the completion (or of the assistant's turns).
    Completion,
}

/// What the loss of a step is the mean over. With l the loss of a token and `w_i` the weight of an example:
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The examples, each with the mean over its tokens: `1/B sum_i w_i (1/n_i) sum_t l`. A short example
    /// counts as much as a long one.
    #[default]
    ExampleMean,
    /// The tokens of all examples, as transformers and TRL have it: `1/N sum_i w_i sum_t l`. N does not
    /// change with the weights: an example of weight 0 still counts in it. As there, N is the number of
    /// labels, so that it counts the first token of an example of which all is scored, which nothing
    /// predicts.
    TokenMean,
}

/// How the learning rate changes over the steps of a run, after the warm-up if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// It stays; with a warm-up, transformers calls this `constant_with_warmup`.
    #[default]
    Constant,
    /// It falls in a straight line, to 0 one step after the last.
    Linear,
    /// It falls along half a cosine, to 0 one step after the last.
    Cosine,
}

/// Which parameters weight decay acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayOn {
    /// All of them.
    #[default]
    All,
    /// Matrices, embeddings among them: biases and norms are left out, as in transformers.
    Matrices,
}

/// A recipe that people know, for the keys that a spec does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// What TRL's `SFTTrainer` does by default: batches of 8, 3 epochs, at most 1024 tokens, AdamW at 2e-5
    /// falling linearly to 0, gradients cut to norm 1, the mean over tokens. The loss is on the completion if
    /// `output.format` is `prompt_completion`. PyTorch's AdamW has no `eps_root`; here it is 1e-9, since rewards
    /// all but vanish without it.
    Trl,
}

impl Preset {
    /// Every key of the recipe; `completions` if the data has prompts and completions.
    pub fn sft(self, completions: bool) -> Sft {
        match self {
            Self::Trl => Sft {
                optimizer: Optimizer::Adamw(AdamW {
                    learning_rate: 2e-5,
                    betas: [0.9, 0.999],
                    eps: 1e-8,
                    eps_root: 1e-9,
                    weight_decay: 0.0,
                }),
                batch_size: 8,
                epochs: 3,
                sequence_length: 1024,
                loss_on: if completions { LossOn::Completion } else { LossOn::All },
                shuffle: true,
                append_eos: true,
                loss: Loss::TokenMean,
                lr_schedule: LrSchedule::Linear,
                warmup_steps: 0,
                warmup_ratio: 0.0,
                max_grad_norm: 1.0,
                decay_on: DecayOn::Matrices,
                packing: false,
                preset: None,
            },
        }
    }
}

/// A spec's value with the preset of its recipe, if it names one, written out.
pub(crate) fn with_preset(spec: &Value) -> Cow<'_, Value> {
    const SFT: &str = "/target/sft";
    let named = spec.pointer(SFT).and_then(|sft| sft.get("preset"));
    let Some(preset) = named.and_then(|name| Preset::deserialize(name).ok()) else {
        return Cow::Borrowed(spec);
    };
    let completions = spec.pointer("/output/format").is_some_and(|format| format == "prompt_completion");
    let mut values = serde_json::to_value(preset.sft(completions)).expect("plain values with text keys");
    let mut spec = spec.clone();
    let given = spec.pointer_mut(SFT).and_then(Value::as_object_mut).expect("a preset was found in it");
    given.remove("preset");
    let values = values.as_object_mut().expect("a struct");
    if let (Some(Value::Object(given)), Some(Value::Object(values))) =
        (given.get_mut("optimizer"), values.get("optimizer"))
        // settings of another kind mean nothing here
        && given.get("kind").is_none_or(|kind| *kind == values["kind"])
    {
        fill(given, values);
    }
    fill(given, values);
    Cow::Owned(spec)
}

/// Adds what is not there.
fn fill(given: &mut Map<String, Value>, values: &Map<String, Value>) {
    for (key, value) in values {
        if !given.contains_key(key) {
            given.insert(key.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Spec, Syntax};

    fn parse(sft: &str) -> Spec {
        let text = format!(
            "name = \"a\"\n[target]\nmodel = \"m\"\n[target.sft]\n{sft}\n[metric]\nkind = \"weight_norm\"\n"
        );
        Spec::parse(&text, Syntax::Toml).unwrap()
    }

    #[test]
    fn what_is_given_beside_a_preset_wins() {
        assert_eq!(parse("preset = \"trl\"").target.sft, Preset::Trl.sft(false));
        let sft = parse(
            "preset = \"trl\"\nepochs = 1\nmax_grad_norm = 0\nlr_schedule = \"constant\"\n\
             optimizer = { kind = \"adamw\", eps_root = 0 }",
        )
        .target
        .sft;
        let Optimizer::Adamw(trl) = Preset::Trl.sft(false).optimizer else { panic!() };
        let optimizer = Optimizer::Adamw(AdamW { eps_root: 0.0, ..trl });
        let expected = Sft {
            optimizer,
            epochs: 1,
            max_grad_norm: 0.0,
            lr_schedule: LrSchedule::Constant,
            ..Preset::Trl.sft(false)
        };
        assert_eq!(sft, expected);
        let sgd = parse("preset = \"trl\"\noptimizer = { kind = \"sgd\", learning_rate = 0.5 }").target.sft;
        assert_eq!(sgd.optimizer, Optimizer::Sgd(crate::Sgd { learning_rate: 0.5, weight_decay: 0.0 }));
    }

    #[test]
    fn a_preset_and_its_values_are_one_spec() {
        let preset = parse("preset = \"trl\"");
        let written = preset.to_toml().unwrap();
        assert!(!written.contains("preset") && written.contains("max_grad_norm = 1.0"), "{written}");
        assert_eq!(Spec::parse(&written, Syntax::Toml).unwrap().sha256(), preset.sha256());
    }

    #[test]
    fn a_preset_scores_completions_where_the_format_has_them() {
        let mut spec = parse("preset = \"trl\"");
        assert_eq!(spec.target.sft.loss_on, LossOn::All);
        spec.output.format = Format::PromptCompletion;
        let text = spec.to_toml().unwrap();
        let (before, after) = text.split_once("[target.sft]\n").unwrap();
        let after = after.replace("loss_on = \"all\"\n", "");
        let text = format!("{before}[target.sft]\npreset = \"trl\"\n{after}");
        assert_eq!(Spec::parse(&text, Syntax::Toml).unwrap().target.sft.loss_on, LossOn::Completion);
    }

    #[test]
    fn keys_that_came_later_change_no_hash() {
        let spec = parse("batch_size = 8");
        let value = spec.to_value();
        let keys: Vec<_> = value["target"]["sft"].as_object().unwrap().keys().collect();
        let first =
            ["optimizer", "batch_size", "epochs", "sequence_length", "loss_on", "shuffle", "append_eos"];
        assert_eq!(keys, first);
        assert_ne!(parse("batch_size = 8\nmax_grad_norm = 1").sha256(), spec.sha256());
    }
}
