//! The generator with its prompts, and what it writes.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use burn::tensor::Device;
use dpg_dataset::{Example, REASONING, message, read_texts};
use dpg_generator::{ByClass, Choice, Classes, Completion, Generator, Local, Prompt};
use dpg_models::Frozen;
use dpg_spec::{Format, Length, Prompts, Spec};
use serde_json::Value;

use crate::{Draw, Error, Stop, Target, lengths, prompts, randomness};

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
    /// share its rollouts. Prompts have no classes by the target's loss.
    pub fn load(spec: &Spec, devices: &[Device]) -> Result<Self, Error> {
        Self::upon(spec, devices, None, None)
    }

    /// The same with the frozen weights of the generator's model, where they are in memory already, and for a target,
    /// whose losses may tell prompts apart.
    pub(crate) fn upon(
        spec: &Spec,
        devices: &[Device],
        frozen: Option<Arc<Frozen>>,
        target: Option<(&Target, Stop)>,
    ) -> Result<Self, Error> {
        let (settings, length) = (spec.generator()?, spec.output.length.as_ref());
        let generator = told(dpg_generator::upon(settings, devices, frozen)?, length);
        let Some(file) = settings.prompts() else {
            let writer = Self::asking(None, generator)?;
            return Ok(Self { validation: writer.training.clone(), ..writer });
        };
        let mut writer = Self::asking(Some(file), generator)?;
        let names = writer.classify(file, length, target)?;
        if let Some((learnt, names)) = settings.learnt_classes().zip(names) {
            writer.generator = Box::new(ByClass::new(writer.generator, learnt, names));
        }
        randomness::shuffle_prompts(&mut writer.training, spec.seed);
        writer.keep_aside(file)?;
        Ok(writer)
    }

    /// Gives the prompts of a file their classes, and the names of these, as far as they are known.
    fn classify(
        &mut self,
        file: &Prompts,
        length: Option<&Length>,
        target: Option<(&Target, Stop)>,
    ) -> Result<Option<Vec<String>>, Error> {
        let Some(classes) = prompts::classes(file, &self.training, target)? else { return Ok(None) };
        let names = prompts::names(&classes);
        prompts::check_mixes(length, &names)?;
        for (prompt, class) in self.training.iter_mut().zip(classes) {
            prompt.class = Some(class);
        }
        Ok(Some(names))
    }

    /// Keeps the first prompts for validation, of each class its share.
    fn keep_aside(&mut self, file: &Prompts) -> Result<(), Error> {
        let mut of_class: BTreeMap<Option<String>, usize> = BTreeMap::new();
        for prompt in &self.training {
            *of_class.entry(prompt.class.clone()).or_default() += 1;
        }
        let mut left = BTreeMap::new();
        for (class, all) in of_class {
            let kept = ((all as f64 * file.validation_share) as usize).max(1);
            if all <= kept {
                let of = class.map_or(String::new(), |class| format!(" of the class `{class}`"));
                let reason = format!(
                    "`{}` has {all} prompts{of}, of which {kept} would be kept for validation; give more prompts or a \
                     lower `validation_share`",
                    file.path,
                );
                return Err(Error::setting("generator.prompts", reason));
            }
            left.insert(class, kept);
        }
        let is_kept = |prompt: &Prompt| {
            left.get_mut(&prompt.class).filter(|left| **left > 0).map(|left| *left -= 1).is_some()
        };
        (self.validation, self.training) = std::mem::take(&mut self.training).into_iter().partition(is_kept);
        Ok(())
    }

    /// Loads a generator whose paths are local with all its prompts in the order of their file, none
    /// kept for validation.
    pub fn in_order(settings: &dpg_spec::Generator, devices: &[Device]) -> Result<Self, Error> {
        Self::asking(settings.prompts(), dpg_generator::from_spec(settings, devices)?)
    }

    /// The same for a generator that was exported to a folder, and is told lengths if it was trained with that.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn exported(
        settings: &dpg_spec::LocalGenerator,
        length: Option<&Length>,
        folder: &Path,
        devices: &[Device],
    ) -> Result<Self, Error> {
        let generator = Box::new(Local::load_exported(settings.clone(), folder, devices)?);
        let mut writer = Self::asking(settings.prompts.as_ref(), told(generator, length))?;
        if let Some(file) = &settings.prompts {
            writer.classify(file, length, None)?;
        }
        Ok(writer)
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
        let chosen = self.choose(&self.training, groups, seed, draw);
        let of_each = |prompt: usize| std::iter::repeat_n(self.training[prompt].clone(), group_size);
        self.draw(chosen.into_iter().flat_map(of_each).collect(), seed, draw, stop)
    }

    /// Draws completions of so many prompts that are kept aside.
    pub(crate) fn draw_validation(
        &self,
        count: usize,
        seed: u64,
        draw: Draw,
        stop: Stop,
    ) -> Result<Drawn, Error> {
        let chosen = if self.generator.about().classes.is_empty() {
            (0..self.validation.len()).cycle().take(count).collect()
        } else {
            self.choose(&self.validation, count, seed, draw)
        };
        self.draw(
            chosen.into_iter().map(|prompt| self.validation[prompt].clone()).collect(),
            seed,
            draw,
            stop,
        )
    }

    /// Which of some prompts a draw asks: other ones as far as there are, and of each class as often as the generator says.
    fn choose(&self, among: &[Prompt], count: usize, seed: u64, draw: Draw) -> Vec<usize> {
        let classes = self.generator.about().classes;
        if classes.is_empty() {
            return randomness::choose_prompts(among.len(), count, seed, draw);
        }
        let shares: Vec<f64> = classes.iter().map(|class| class.probability).collect();
        let of_places = randomness::choose_classes(&shares, count, seed, draw);
        let mut chosen = vec![0; count];
        for (number, class) in classes.iter().enumerate() {
            let places: Vec<_> = (0..count).filter(|place| of_places[*place] == number).collect();
            let is_its = |prompt: &usize| among[*prompt].class.as_ref() == Some(&class.name);
            let available: Vec<_> = (0..among.len()).filter(is_its).collect();
            let picked = randomness::choose_prompts(available.len(), places.len(), seed, draw);
            for (place, prompt) in places.into_iter().zip(picked) {
                chosen[place] = available[prompt];
            }
        }
        chosen
    }

    /// What each class of lengths should have of all rows.
    pub(crate) fn length_shares(&self, length: &Length) -> Vec<f64> {
        let about = self.generator.about();
        let part = |of: &Option<String>| match of {
            None => 1.0,
            Some(name) if about.classes.is_empty() => {
                let its = self.training.iter().filter(|prompt| prompt.class.as_ref() == Some(name)).count();
                its as f64 / self.training.len() as f64
            }
            Some(name) => {
                about.classes.iter().find(|class| class.name == *name).map_or(0.0, |class| class.probability)
            }
        };
        let wanted = lengths::wanted(length, &about).into_iter().zip(length.classes());
        wanted.map(|(share, class)| share * part(&class.prompts)).collect()
    }

    /// The likeliest completion of the first prompt that is kept aside.
    pub(crate) fn likeliest(&self, stop: Stop) -> Result<String, Error> {
        let first = &self.validation[..1];
        Ok(self.generator.draw(first, Choice::Likeliest, stop)?.remove(0).text)
    }
}

/// A generator that is told the classes of lengths, if they are to be told.
fn told(generator: Box<dyn Generator>, length: Option<&Length>) -> Box<dyn Generator> {
    match length.filter(|length| length.is_told()) {
        Some(length) => Box::new(Classes::new(generator, length)),
        None => generator,
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
