//! A language model on this machine, all of whose weights, or whose LoRA adapters, are trained by GRPO.

use std::{path::Path, sync::Arc};

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{
    Conversation, Frozen, MatmulPrecision, Model, Sampling, kept_of_rollout, load_adapter, sample_until,
    together,
};
use dpg_optim::State;
use dpg_policy::{Policy, update};
use dpg_spec::Precision;
use serde_json::{Map, Value};

use crate::{About, Choice, Completion, Error, Generator, Lesson, Prompt, Rollout, Saved, Stop, UpdateStats};

/// The template that stands for the model's own.
const CHAT: &str = "chat";

/// What the start of its adapters is drawn from.
const SEED: u64 = 0;

/// Completions that are drawn together.
const BATCH: usize = 1024;

/// The weights' name among what is saved,
const THETA: &str = "theta";
/// those of the optimizer's moments,
const MOMENTS: [&str; 2] = ["m", "v"];
/// and that of its steps.
const APPLIED: &str = "applied";

/// A causal language model with its optimizer's state.
pub struct Local {
    /// The model with its initial weights, which the KL term of an update holds it to. With LoRA it is the model itself
    /// that adapters at their start make, so that there is no second copy.
    pub model: Model,
    settings: dpg_spec::LocalGenerator,
    /// Tokens that the model has and its tokenizer has not.
    unused: Vec<u32>,
    devices: Vec<Device>,
    /// The weights that it writes with, and AdamW's moments.
    state: State,
    /// Optimizer steps made; an update has one for every minibatch.
    applied: usize,
}

impl Local {
    /// Loads the model of a local folder. Adapters lie upon `frozen`, the weights of that folder, if they are in memory
    /// already.
    pub fn load(
        settings: dpg_spec::LocalGenerator,
        devices: &[Device],
        frozen: Option<Arc<Frozen>>,
    ) -> Result<Self, Error> {
        let first = devices.first().expect("a run has a device");
        let folder = Path::new(&settings.model);
        let mut model = match &settings.lora {
            None => Model::load(folder, DType::F32, first)?,
            Some(lora) => Model::load_adapted(folder, lora, SEED, DType::F32, devices, frozen)?,
        };
        let precision = match settings.precision {
            Precision::F32 => MatmulPrecision::F32,
            Precision::Tf32 => MatmulPrecision::Tf32,
            Precision::Bf16 => MatmulPrecision::Bf16,
        };
        precision.check(first)?;
        model.set_precision(precision);
        let unused = model.tokenizer.unused(model.lm.vocab_size());
        let state = State::new(model.theta.clone());
        Ok(Self { model, settings, unused, devices: devices.to_vec(), state, applied: 0 })
    }

    /// Loads what one of the same settings exported to a folder: a model of its own, or adapters of the model that the
    /// settings name.
    pub fn load_exported(
        settings: dpg_spec::LocalGenerator,
        folder: &Path,
        devices: &[Device],
    ) -> Result<Self, Error> {
        if settings.lora.is_none() {
            let model = folder.to_string_lossy().into_owned();
            return Self::load(dpg_spec::LocalGenerator { model, ..settings }, devices, None);
        }
        let mut this = Self::load(settings, devices, None)?;
        let Model { lm, theta, .. } = &this.model;
        let theta = load_adapter(folder, lm.layout(), theta)?;
        let missing = || Error::Saved { reason: format!("`{}` holds no adapter", folder.display()) };
        this.state = State::new(theta.ok_or_else(missing)?);
        Ok(this)
    }

    fn sampling(&self, choice: Choice) -> Sampling {
        let (temperature, seed, step) = match choice {
            Choice::Random { seed, draw } => (self.settings.temperature, seed, draw),
            Choice::Likeliest => (0.0, 0, 0),
        };
        Sampling {
            temperature,
            min_new_tokens: self.settings.min_new_tokens,
            max_new_tokens: self.settings.max_new_tokens,
            stop: self.model.tokenizer.stop().to_vec(),
            never: self.unused.clone(),
            seed,
            step,
            batch: BATCH,
            devices: self.devices.clone(),
        }
    }

    /// Rollouts that pass through the model together.
    fn microbatch(&self, prompts: &[Prompt]) -> usize {
        let length = |prompt: &Prompt| prompt.tokens.as_ref().map_or(0, Vec::len);
        let longest = prompts.iter().map(length).max().unwrap_or(1);
        let length = longest + self.settings.max_new_tokens;
        together(kept_of_rollout(self.model.lm.as_ref(), length), length)
    }

    /// A vector as long as the weights, if it was saved.
    fn vector(&self, saved: &Saved, name: &str) -> Result<Option<Tensor<1>>, Error> {
        let Some((_, values)) = saved.vectors.iter().find(|(other, _)| other == name) else {
            return Ok(None);
        };
        let length = self.model.lm.layout().len();
        if values.len() != length {
            let reason = format!("`{name}` has {} numbers, expected {length}", values.len());
            return Err(Error::Saved { reason });
        }
        let place = (&self.model.theta.device(), DType::F32);
        Ok(Some(Tensor::from_data(values.as_slice(), place)))
    }

    fn read(&self, saved: &Saved) -> Result<(State, usize), Error> {
        let missing = |name: &str| Error::Saved { reason: format!("it has no `{name}`") };
        let theta = self.vector(saved, THETA)?.ok_or_else(|| missing(THETA))?;
        let applied = saved.facts.get(APPLIED).and_then(Value::as_u64).ok_or_else(|| missing(APPLIED))?;
        let mut state = State::new(theta);
        // before its first step an optimizer has no moments
        if applied > 0 {
            for name in MOMENTS {
                state.moments.push(self.vector(saved, name)?.ok_or_else(|| missing(name))?);
            }
        }
        Ok((state, applied as usize))
    }
}

impl Generator for Local {
    fn about(&self) -> About {
        let kind = if self.settings.lora.is_some() { "adapters of a local model" } else { "a local model" };
        About { kind, parameters: Some(self.model.lm.layout().len()), ..About::default() }
    }

    fn render(&self, row: &str) -> Result<String, Error> {
        if self.settings.template == CHAT {
            let turn: Map<String, Value> = [("role", "user"), ("content", row)]
                .map(|(name, text)| (name.into(), text.into()))
                .into_iter()
                .collect();
            let asked = Conversation { turns: &[turn], ..Conversation::default() };
            Ok(self.model.chat()?.render(&asked, true)?)
        } else {
            Ok(self.settings.template.replace("{text}", row))
        }
    }

    fn prompt(&self, text: String) -> Result<Prompt, Error> {
        let Model { tokenizer, lm, .. } = &self.model;
        let mut tokens = if self.settings.template == CHAT {
            // the template has written the special tokens
            tokenizer.encode(&text)?
        } else {
            // unlike transformers' `generate`, which would go on after an EOS that the tokenizer puts at the end
            tokenizer.encode_prompt(&text)?
        };
        if tokens.is_empty() {
            // an empty prompt still needs a token to predict from
            tokens.push(tokenizer.bos().or(tokenizer.eos()).ok_or_else(|| {
                Error::setting(
                    "generator.template",
                    "the prompt is empty and the tokenizer has no BOS or EOS to start from",
                )
            })?);
        }
        self.model.check(&tokens)?;
        let (new, limit) = (self.settings.max_new_tokens, lm.context());
        if tokens.len() + new > limit {
            let reason = format!(
                "a prompt of {} tokens and `max_new_tokens` = {new} do not fit the generator's context of {limit}; \
                 shorten the prompts or lower `max_new_tokens` (prompt: `{}`)",
                tokens.len(),
                text.chars().take(60).collect::<String>()
            );
            return Err(Error::setting("generator.prompts", reason));
        }
        Ok(Prompt::new(text, Some(tokens)))
    }

    fn draw(&self, prompts: &[Prompt], choice: Choice, stop: Stop) -> Result<Vec<Completion>, Error> {
        let Model { lm, tokenizer, .. } = &self.model;
        let asked = prompts.iter().map(tokens_of).collect::<Result<Vec<_>, _>>()?;
        let drawn = sample_until(lm.as_ref(), &self.state.theta, &asked, &self.sampling(choice), stop)?;
        let completion = |drawn: dpg_models::Completion| {
            let text = tokenizer.decode(&drawn.tokens)?;
            let dpg_models::Completion { tokens, log_probs, stopped } = drawn;
            Ok(Completion {
                text,
                tokens: Some(tokens),
                log_probs: Some(log_probs),
                stopped,
                asked: None,
                reasoning: None,
            })
        };
        drawn.into_iter().map(completion).collect()
    }

    fn passes(&self, completions: usize) -> usize {
        completions.div_ceil(BATCH) * self.settings.max_new_tokens
    }

    fn learn(&mut self, lesson: &Lesson) -> Result<UpdateStats, Error> {
        let learner = Policy {
            lm: self.model.lm.as_ref(),
            initial: &self.model.theta,
            settings: lesson.policy,
            microbatch: self.microbatch(lesson.prompts),
            devices: &self.devices,
        };
        let rollouts = lesson.rollouts.iter().map(rollout).collect::<Result<Vec<_>, _>>()?;
        // an update reads the distribution that was drawn from, not what was drawn
        let sampling = self.sampling(Choice::Random { seed: 0, draw: 0 });
        // moved, so that the optimizer has no second state to make
        let state = std::mem::replace(&mut self.state, State::new(self.model.theta.clone()));
        let (state, applied, report) = update(&learner, state, self.applied, &rollouts, &sampling)?;
        (self.state, self.applied) = (state, applied);
        Ok(report)
    }

    fn save(&self) -> Saved {
        let names = std::iter::once(THETA).chain(MOMENTS).map(str::to_owned);
        let vectors = std::iter::once(&self.state.theta).chain(&self.state.moments);
        let values = vectors.map(|vector| vector.to_data_as::<f32>().iter::<f32>().collect());
        let facts = Map::from_iter([(APPLIED.to_owned(), self.applied.into())]);
        Saved { vectors: names.zip(values).collect(), facts }
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        (self.state, self.applied) = self.read(saved)?;
        Ok(())
    }

    fn start_from(&mut self, saved: &Saved) -> Result<(), Error> {
        let (state, _) = self.read(saved)?;
        (self.state, self.applied) = (State::new(state.theta), 0);
        Ok(())
    }

    fn export(&self, folder: &Path) -> Result<(), Error> {
        Ok(self.model.export(folder, &self.state.theta)?)
    }
}

fn tokens_of(prompt: &Prompt) -> Result<Vec<u32>, Error> {
    prompt.tokens.clone().ok_or_else(|| Error::NoTokens { what: format!("the prompt `{}`", prompt.text) })
}

fn rollout(rollout: &Rollout) -> Result<dpg_policy::Rollout, Error> {
    let Completion { text, tokens, log_probs, stopped, .. } = rollout.completion.clone();
    let (Some(tokens), Some(log_probs)) = (tokens, log_probs) else {
        return Err(Error::NoTokens { what: format!("the completion `{text}`") });
    };
    Ok(dpg_policy::Rollout {
        prompt: tokens_of(&rollout.prompt)?,
        completion: dpg_models::Completion { tokens, log_probs, stopped },
        advantage: rollout.advantage,
    })
}
