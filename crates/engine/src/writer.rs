//! The generator with its prompts, and what it writes.

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use dpg_dataset::{Example, REASONING, message, read_texts};
use dpg_generator::{Choice, Classes, Completion, Generator, Local, Prompt};
use dpg_models::Frozen;
use dpg_spec::{Format, Prompts, Spec};
use serde_json::Value;

use crate::{Draw, Error, Stop, randomness};

/// The generator and what it is asked.
pub struct Writer {
    /// The generator.
    pub generator: Box<dyn Generator>,
    /// Prompts to train on.
    pub training: Vec<Prompt>,
    /// Prompts kept aside for validation.
    pub validation: Vec<Prompt>,
}

impl Writer {
    /// Loads the generator and prompts of a spec whose paths are local, for one device or several that
    /// share its rollouts.
    pub fn load(spec: &Spec, devices: &[Device]) -> Result<Self, Error> {
        Self::upon(spec, devices, None)
    }

    /// The same with the frozen weights of the generator's model, where they are in memory already.
    pub(crate) fn upon(spec: &Spec, devices: &[Device], frozen: Option<Arc<Frozen>>) -> Result<Self, Error> {
        let settings = spec.generator()?;
        let mut generator = dpg_generator::upon(settings, devices, frozen)?;
        if let Some(length) = spec.output.length.as_ref().filter(|length| length.is_told()) {
            generator = Box::new(Classes::new(generator, length));
        }
        let mut writer = Self::asking(settings.prompts(), generator)?;
        let Some(file) = settings.prompts() else {
            return Ok(Self { validation: writer.training.clone(), ..writer });
        };
        let prompts = &mut writer.training;
        randomness::shuffle_prompts(prompts, spec.seed);
        let kept = ((prompts.len() as f64 * file.validation_share) as usize).max(1);
        if prompts.len() <= kept {
            let reason = format!(
                "`{}` has {} prompts, of which {kept} would be kept for validation; give more prompts or a lower \
                 `validation_share`",
                file.path,
                prompts.len()
            );
            return Err(Error::setting("generator.prompts", reason));
        }
        writer.validation = prompts.drain(..kept).collect();
        Ok(writer)
    }

    /// Loads a generator whose paths are local with all its prompts in the order of their file, none
    /// kept for validation.
    pub fn in_order(settings: &dpg_spec::Generator, devices: &[Device]) -> Result<Self, Error> {
        Self::asking(settings.prompts(), dpg_generator::from_spec(settings, devices)?)
    }

    /// The same for a generator that was exported to a folder.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn exported(
        settings: &dpg_spec::LocalGenerator,
        folder: &Path,
        devices: &[Device],
    ) -> Result<Self, Error> {
        let generator = Local::load_exported(settings.clone(), folder, devices)?;
        Self::asking(settings.prompts.as_ref(), Box::new(generator))
    }

    fn asking(prompts: Option<&Prompts>, generator: Box<dyn Generator>) -> Result<Self, Error> {
        let rows = match prompts {
            Some(file) => read_texts(Path::new(&file.path), &file.column, None)?,
            None => vec![String::new()],
        };
        let prompt = |row: String| {
            let prompt = generator.prompt(generator.render(&row)?)?;
            Ok::<_, Error>(Prompt { row, ..prompt })
        };
        let training = rows.into_iter().map(prompt).collect::<Result<_, _>>()?;
        Ok(Self { generator, training, validation: vec![] })
    }

    /// The same prompts for a generator of other settings; the first one's memory is freed before.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn drawing(self, settings: &dpg_spec::Generator, devices: &[Device]) -> Result<Self, Error> {
        let Self { generator, training, validation } = self;
        drop(generator);
        Ok(Self { generator: dpg_generator::from_spec(settings, devices)?, training, validation })
    }

    /// Draws `examples` fresh examples from the generator as it is, its training prompts in turn.
    pub fn generate(
        &self,
        format: Format,
        examples: usize,
        seed: u64,
        stop: Stop,
    ) -> Result<Vec<Example>, Error> {
        let prompts = self.training.iter().cycle().take(examples).cloned().collect();
        Ok(self.draw(prompts, seed, Draw::GENERATION, stop)?.examples(format))
    }

    /// Draws one completion for each prompt.
    pub(crate) fn draw(
        &self,
        prompts: Vec<Prompt>,
        seed: u64,
        draw: Draw,
        stop: Stop,
    ) -> Result<Drawn, Error> {
        let choice = Choice::Random { seed, draw: draw.number() };
        let completions = self.generator.draw(&prompts, choice, stop)?;
        Ok(Drawn { prompts, completions })
    }

    /// Draws completions of `groups` training prompts, other ones as far as there are, each asked `group_size`
    /// times in a row.
    pub(crate) fn draw_groups(
        &self,
        (groups, group_size): (usize, usize),
        seed: u64,
        draw: Draw,
        stop: Stop,
    ) -> Result<Drawn, Error> {
        let chosen = randomness::choose_prompts(self.training.len(), groups, seed, draw);
        let of_each = |prompt: usize| std::iter::repeat_n(self.training[prompt].clone(), group_size);
        self.draw(chosen.into_iter().flat_map(of_each).collect(), seed, draw, stop)
    }

    /// The likeliest completion of the first prompt that is kept aside.
    pub(crate) fn likeliest(&self, stop: Stop) -> Result<String, Error> {
        let first = &self.validation[..1];
        Ok(self.generator.draw(first, Choice::Likeliest, stop)?.remove(0).text)
    }
}

/// Completions of some prompts.
pub(crate) struct Drawn {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) completions: Vec<Completion>,
}

impl Drawn {
    /// What the completions say.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.completions.iter().map(|completion| completion.text.clone()).collect()
    }

    /// Mean tokens of a completion, if all are counted.
    pub(crate) fn length(&self) -> Option<f64> {
        let tokens: Option<usize> = self.completions.iter().map(Completion::length).sum();
        Some(tokens? as f64 / self.completions.len() as f64)
    }

    /// The rows as they would be published.
    pub(crate) fn examples(&self, format: Format) -> Vec<Example> {
        self.prompts
            .iter()
            .zip(&self.completions)
            .map(|(prompt, completion)| row(prompt, completion, format))
            .collect()
    }
}

/// A completion as it would be published.
pub(crate) fn row(prompt: &Prompt, completion: &Completion, format: Format) -> Example {
    // as the generator put it, where it chose that
    let prompt = completion.asked.as_ref().map_or(&prompt.text, |asked| &asked.prompt);
    match format {
        Format::Text => Example::Text(completion.text.clone()),
        Format::PromptCompletion => {
            Example::PromptCompletion { prompt: prompt.clone(), completion: completion.text.clone() }
        }
        Format::Messages => {
            let mut turns = vec![message("user", prompt), message("assistant", &completion.text)];
            if let Some(reasoning) = &completion.reasoning {
                turns[0].insert(REASONING.into(), Value::Null);
                turns[1].insert(REASONING.into(), reasoning.as_str().into());
            }
            Example::Messages(turns.into())
        }
    }
}
