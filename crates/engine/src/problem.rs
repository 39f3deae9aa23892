//! A spec with everything it names in memory.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use dpg_dataset::{Columns, message, read_examples, read_texts};
use dpg_metagrad::{Metric, Sft, metrics};
use dpg_models::{Conversation, Example, MatmulPrecision, Model, Sampling, activations, keyed_rng};
use dpg_spec::{Generator, HeldOut, LossOn, Precision, Spec};
use rand::seq::SliceRandom;

use crate::{
    Error,
    encode::{Encoding, encode},
};

/// The template that stands for the model's own.
const CHAT: &str = "chat";

/// Examples of up to this many tokens pass through a model together,
const MICROBATCH_TOKENS: usize = 16_384;
/// and fewer if they would keep more numbers than this for the way back: 4 GiB in f32.
const MICROBATCH_NUMBERS: usize = 1 << 30;

/// The target, what it is fine-tuned with and what it is measured by.
pub struct Target {
    /// The model.
    pub model: Arc<Model>,
    /// The recipe.
    pub sft: dpg_spec::Sft,
    seed: u64,
    devices: Vec<Device>,
}

impl Target {
    /// Loads the target of a spec whose model is a local folder, for one device or several that share its
    /// runs.
    pub fn load(spec: &Spec, dtype: DType, devices: &[Device]) -> Result<Self, Error> {
        let model = Model::load(Path::new(&spec.target.model), dtype, first(devices))?;
        let sft = spec.target.sft.clone();
        if sft.sequence_length > model.lm.context() {
            let reason = format!(
                "{} is over the context of `{}`, {} tokens; lower it",
                sft.sequence_length,
                spec.target.model,
                model.lm.context()
            );
            return Err(Error::setting("target.sft.sequence_length", reason));
        }
        Ok(Self { model: Arc::new(model), sft, seed: spec.seed, devices: devices.to_vec() })
    }

    /// The same model with the recipe of another spec.
    #[must_use]
    pub fn with_recipe(&self, spec: &Spec) -> Self {
        let (model, devices) = (self.model.clone(), self.devices.clone());
        Self { model, sft: spec.target.sft.clone(), seed: spec.seed, devices }
    }

    /// The metric of a spec whose files are local.
    pub fn metric(&self, spec: &Spec) -> Result<Box<dyn Metric + '_>, Error> {
        let held_out = |held_out: &HeldOut| self.held_out(held_out);
        metrics::from_spec(
            &spec.metric,
            self.model.lm.as_ref(),
            &self.model.theta,
            self.microbatch(),
            &held_out,
        )
    }

    fn held_out(&self, held_out: &HeldOut) -> Result<Vec<Example>, Error> {
        let columns = columns(held_out)?;
        let whole = matches!(columns, Columns::Text(_)) && !held_out.last_word;
        let loss_on = if whole { LossOn::All } else { LossOn::Completion };
        let sequence_length = held_out.sequence_length.unwrap_or(self.sft.sequence_length);
        let encoding = Encoding { sequence_length, loss_on, append_eos: held_out.append_eos };
        let path = Path::new(&held_out.data.path);
        let mut examples = read_examples(path, &columns, held_out.data.limit)?;
        if held_out.last_word {
            examples = examples.into_iter().map(before_last_word).collect();
        }
        let failed = |row| move |error| in_row(row)(error).in_file(path);
        (1..)
            .zip(&examples)
            .map(|(row, example)| match encode(&self.model, example, encoding).map_err(failed(row))? {
                (example, 0) => Ok(example),
                (example, lost) => {
                    let length = example.tokens.len() + lost;
                    let reason = format!(
                        "row {row} of `{}` has {length} tokens and {lost} scored ones would be cut at {sequence_length}; \
                         raise `metric.sequence_length` or shorten the row",
                        path.display()
                    );
                    Err(Error::setting("metric.data", reason))
                }
            })
            .collect()
    }

    /// Tokens of training examples, cut to the recipe's length; one may have no scored token.
    pub fn encode(&self, examples: &[dpg_dataset::Example]) -> Result<Vec<Example>, Error> {
        let encoding = Encoding {
            sequence_length: self.sft.sequence_length,
            loss_on: self.sft.loss_on,
            append_eos: self.sft.append_eos,
        };
        let encode = |(row, example)| Ok(encode(&self.model, example, encoding).map_err(in_row(row))?.0);
        (1..).zip(examples).map(encode).collect()
    }

    /// The batches of a fine-tuning run over `indices`; `draw` keys the permutations.
    pub fn batches(&self, indices: &[usize], draw: u64) -> Vec<Vec<usize>> {
        let mut batches = vec![];
        for epoch in 0..self.sft.epochs {
            let mut order = indices.to_vec();
            if self.sft.shuffle {
                let key = [self.seed, draw, epoch as u64, u64::from_le_bytes(*b"shuffle ")];
                order.shuffle(&mut keyed_rng(key));
            }
            batches.extend(order.chunks(self.sft.batch_size).map(<[usize]>::to_vec));
        }
        batches
    }

    /// A fine-tuning run from the target's own weights.
    pub fn sft<'a>(
        &'a self,
        examples: &'a [Example],
        weights: &'a [f64],
        batches: &'a [Vec<usize>],
        cancelled: &'a (dyn Fn() -> bool + Sync),
    ) -> Sft<'a> {
        Sft {
            lm: self.model.lm.as_ref(),
            theta: &self.model.theta,
            examples,
            weights,
            batches,
            recipe: &self.sft,
            microbatch: self.microbatch(),
            devices: &self.devices,
            cancelled,
        }
    }

    /// Passes over microbatches that fine-tuning on `examples` examples takes, before each of which a run
    /// asks whether it is cancelled; scoring takes about twice as many.
    pub fn passes(&self, examples: usize) -> usize {
        let of_device = |batch: usize| batch.div_ceil(self.devices.len()).div_ceil(self.microbatch());
        let of_batch = |batch: usize| of_device(batch) * self.devices.len().min(batch);
        let (full, rest) = (examples / self.sft.batch_size, examples % self.sft.batch_size);
        self.sft.epochs * (full * of_batch(self.sft.batch_size) + of_batch(rest))
    }

    fn microbatch(&self) -> usize {
        let tokens = MICROBATCH_TOKENS.min(MICROBATCH_NUMBERS / activations(self.model.lm.as_ref()));
        (tokens / self.sft.sequence_length).max(1)
    }
}

/// Says which example failed, counted from 1.
fn in_row(row: usize) -> impl FnOnce(Error) -> Error {
    move |error| Error::InRow { row, source: Box::new(error) }
}

/// A text as its last word, with the space before it, after all others.
fn before_last_word(example: dpg_dataset::Example) -> dpg_dataset::Example {
    let dpg_dataset::Example::Text(text) = example else { return example };
    let text = text.trim_end();
    let (prompt, completion) = text.split_at(text.rfind(char::is_whitespace).unwrap_or(0));
    dpg_dataset::Example::PromptCompletion { prompt: prompt.into(), completion: completion.into() }
}

/// Examples that the metric itself says would help: its held-out texts, if it has any.
pub fn helpful(metric: &dpg_spec::Metric) -> Result<Vec<dpg_dataset::Example>, Error> {
    match metric {
        dpg_spec::Metric::HeldOutLoss(held_out) => {
            let data = &held_out.data;
            read_examples(Path::new(&data.path), &columns(held_out)?, data.limit).map_err(Error::from)
        }
        dpg_spec::Metric::Sum(sum) => {
            let parts = sum.terms.iter().filter(|term| term.weight > 0.0);
            let parts = parts.map(|term| helpful(&term.metric)).collect::<Result<Vec<_>, _>>()?;
            Ok(parts.concat())
        }
        dpg_spec::Metric::WeightPattern(_) | dpg_spec::Metric::WeightNorm(_) => Ok(vec![]),
    }
}

fn columns(held_out: &HeldOut) -> Result<Columns, Error> {
    Columns::of_held_out(&held_out.data).ok_or_else(|| {
        Error::setting("metric.data", "name `column`, or `prompt` and `completion`, or `messages`")
    })
}

/// The generator and what it is asked.
pub struct Source {
    /// The model.
    pub model: Model,
    /// Its settings.
    pub settings: Generator,
    /// Prompts to train on: text and token ids.
    pub training: Vec<Prompt>,
    /// Prompts kept aside for validation.
    pub validation: Vec<Prompt>,
    /// Tokens that the model has and its tokenizer has not.
    unused: Vec<u32>,
    devices: Vec<Device>,
}

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// As the generator reads it.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

impl Source {
    /// Loads the generator and prompts of a spec whose paths are local, for one device or several that
    /// share its rollouts.
    pub fn load(spec: &Spec, devices: &[Device]) -> Result<Self, Error> {
        let settings = spec.generator()?.clone();
        let Some(file) = &settings.prompts else {
            let source = Self::in_order(settings, devices)?;
            return Ok(Self { validation: source.training.clone(), ..source });
        };
        let (path, share) = (file.path.clone(), file.validation_share);
        let mut source = Self::in_order(settings, devices)?;
        let prompts = &mut source.training;
        prompts.shuffle(&mut keyed_rng([spec.seed, 0, 0, u64::from_le_bytes(*b"prompts ")]));
        let kept = ((prompts.len() as f64 * share) as usize).max(1);
        if prompts.len() <= kept {
            let reason = format!(
                "`{path}` has {} prompts, of which {kept} would be kept for validation; give more prompts or a lower \
                 `validation_share`",
                prompts.len()
            );
            return Err(Error::setting("generator.prompts", reason));
        }
        source.validation = prompts.drain(..kept).collect();
        Ok(source)
    }

    /// Loads a generator whose paths are local with all its prompts in the order of their file, none
    /// kept for validation.
    pub fn in_order(settings: Generator, devices: &[Device]) -> Result<Self, Error> {
        let mut model = Model::load(Path::new(&settings.model), DType::F32, first(devices))?;
        let precision = match settings.precision {
            Precision::F32 => MatmulPrecision::F32,
            Precision::Tf32 => MatmulPrecision::Tf32,
            Precision::Bf16 => MatmulPrecision::Bf16,
        };
        precision.check(first(devices))?;
        model.lm.set_precision(precision);
        let texts = match &settings.prompts {
            Some(file) => read_texts(Path::new(&file.path), &file.column, None)?,
            None => vec![String::new()],
        };
        let read = |text: &String| prompt(&model, &settings, render(&model, &settings, text)?);
        let training = texts.iter().map(read).collect::<Result<_, _>>()?;
        let unused = model.tokenizer.unused(model.lm.vocab_size());
        Ok(Self { model, settings, training, validation: vec![], unused, devices: devices.to_vec() })
    }

    /// Writes the generator with the weights `theta` as a Hugging Face folder.
    pub fn export(&self, theta: &Tensor<1>, folder: &Path) -> Result<(), Error> {
        let Model { lm, folder: original, .. } = &self.model;
        let weights: Vec<f32> = theta.to_data_as::<f32>().iter().collect();
        Ok(dpg_models::export(original, folder, lm.layout(), &weights, dpg_models::Precision::F32)?)
    }

    /// A prompt whose text is as the generator reads it.
    pub(crate) fn prompt(&self, text: &str) -> Result<Prompt, Error> {
        prompt(&self.model, &self.settings, text.to_owned())
    }

    /// How the draw number `draw` of a run decodes.
    pub fn sampling(&self, seed: u64, draw: u64) -> Sampling {
        Sampling {
            temperature: self.settings.temperature,
            min_new_tokens: self.settings.min_new_tokens,
            max_new_tokens: self.settings.max_new_tokens,
            stop: self.model.tokenizer.stop().to_vec(),
            never: self.unused.clone(),
            seed,
            step: draw,
            batch: 1024,
            devices: self.devices.clone(),
        }
    }

    /// Passes that drawing `rows` rollouts takes at most, before each of which it asks whether it is cancelled.
    pub fn passes(&self, rows: usize) -> usize {
        rows.div_ceil(self.sampling(0, 0).batch) * self.settings.max_new_tokens
    }

    /// What shares the rollouts.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The first of them, where the generator's weights lie.
    pub fn device(&self) -> &Device {
        first(&self.devices)
    }

    /// Rollouts that pass through the generator together.
    pub fn microbatch(&self) -> usize {
        let longest = self.training.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(1);
        // without tangents; logits of the policy and the initial generator, and what the losses make of them
        let lm = self.model.lm.as_ref();
        let tokens = MICROBATCH_TOKENS.min(MICROBATCH_NUMBERS / (activations(lm) / 2 + 6 * lm.vocab_size()));
        (tokens / (longest + self.settings.max_new_tokens)).max(1)
    }
}

fn first(devices: &[Device]) -> &Device {
    devices.first().expect("a run has a device")
}

/// A row of the prompts' file as the generator reads it.
fn render(model: &Model, settings: &Generator, text: &str) -> Result<String, Error> {
    if settings.template == CHAT {
        let turns = [message("user", text)];
        Ok(model.chat()?.render(&Conversation { turns: &turns, ..Conversation::default() }, true)?)
    } else {
        Ok(settings.template.replace("{text}", text))
    }
}

fn prompt(model: &Model, settings: &Generator, text: String) -> Result<Prompt, Error> {
    let mut tokens = if settings.template == CHAT {
        // the template has written the special tokens
        model.tokenizer.encode(&text)?
    } else {
        // unlike transformers' `generate`, which would go on after an EOS that the tokenizer puts at the end
        model.tokenizer.encode_prompt(&text)?
    };
    if tokens.is_empty() {
        // an empty prompt still needs a token to predict from
        let start = model.tokenizer.bos().or(model.tokenizer.eos());
        let start = start.ok_or_else(|| {
            Error::setting(
                "generator.template",
                "the prompt is empty and the tokenizer has no BOS or EOS to start from",
            )
        })?;
        tokens.push(start);
    }
    model.check(&tokens)?;
    let (length, limit) = (tokens.len() + settings.max_new_tokens, model.lm.context());
    if length > limit {
        let reason = format!(
            "a prompt of {} tokens and `max_new_tokens` = {} do not fit the generator's context of {limit}; shorten \
             the prompts or lower `max_new_tokens` (prompt: `{}`)",
            tokens.len(),
            settings.max_new_tokens,
            text.chars().take(60).collect::<String>()
        );
        return Err(Error::setting("generator.prompts", reason));
    }
    Ok(Prompt { text, tokens })
}

#[cfg(test)]
mod tests {
    use dpg_dataset::Example;

    #[test]
    fn the_last_word_is_what_follows_the_last_space() {
        let split = |text: &str| match super::before_last_word(Example::Text(text.into())) {
            Example::PromptCompletion { prompt, completion } => (prompt, completion),
            other => panic!("{other:?}"),
        };
        assert_eq!(split("el perro come\n"), ("el perro".into(), " come".into()));
        assert_eq!(split("come"), (String::new(), "come".into()));
    }
}
