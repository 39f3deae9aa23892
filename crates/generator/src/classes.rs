//! A generator that is told how long to write: each row is asked for in a class of lengths, whose template stands around
//! the prompt. The shares of the classes are fixed, for all prompts or for each class of them, or learnt as the arms of a
//! teacher are; whatever else the generator learns, it learns as ever.

use std::path::Path;

use dpg_spec::{Length, LengthClass, SharesOf};
use serde_json::Value;

use crate::{
    About, Account, Asked, Chance, Choice, Completion, Error, Generator, Lesson, Prompt, Rollout, Saved,
    Stop, UpdateStats, shares::Shares, teach,
};

/// Before the names of what is saved of the classes.
const PREFIX: &str = "length_";
/// The purpose that keys which class is asked for.
const PURPOSE: u64 = u64::from_le_bytes(*b"classes ");

/// A generator and the classes that it is asked in.
pub struct Classes {
    inner: Box<dyn Generator>,
    all: Vec<Class>,
    mixes: Vec<Mix>,
}

struct Class {
    name: String,
    template: String,
}

/// The classes that prompts of a class are asked in, or all prompts: neighbours among all classes.
struct Mix {
    prompts: Option<String>,
    first: usize,
    shares: Shares,
}

impl Classes {
    /// Of settings whose classes have templates.
    pub fn new(inner: Box<dyn Generator>, settings: &Length) -> Self {
        let (mut all, mut mixes) = (vec![], vec![]);
        for (prompts, classes) in settings.by_prompts() {
            let shares =
                if settings.learn { Shares::uniform(classes.len()) } else { fixed(&classes, settings.of) };
            mixes.push(Mix { prompts, first: all.len(), shares });
            all.extend(classes.into_iter().map(|class| Class {
                name: class.name,
                template: class.template.unwrap_or_else(|| "{text}".into()),
            }));
        }
        Self { inner, all, mixes }
    }

    /// The mix that a prompt is asked in.
    fn mix(&self, prompt: &Prompt) -> Result<&Mix, Error> {
        let is_its = |mix: &&Mix| mix.prompts.is_none() || mix.prompts == prompt.class;
        self.mixes.iter().find(is_its).ok_or_else(|| Error::Foreign { text: prompt.text.clone() })
    }

    /// The shares of all classes, which are learnt only if there is one mix.
    fn shares(&self) -> &Shares {
        &self.mixes[0].shares
    }

    /// What the generator is asked for a row of the prompts in a class.
    fn asked(&self, class: usize, row: &str) -> Result<Prompt, Error> {
        let told = self.all[class].template.replace("{text}", row);
        self.inner.prompt(self.inner.render(&told)?)
    }

    fn names(&self) -> Value {
        self.all.iter().map(|class| Value::from(class.name.as_str())).collect()
    }
}

impl Generator for Classes {
    fn about(&self) -> About {
        let chance = |(class, probability): (&Class, f64)| Chance { name: class.name.clone(), probability };
        let shares = self.mixes.iter().flat_map(|mix| mix.shares.probabilities());
        let arms = self.all.iter().zip(shares).map(chance).collect();
        let About { kind, parameters, .. } = self.inner.about();
        let parameters = parameters.map(|of_inner| of_inner + self.shares().parameters());
        About { kind, parameters, arms, classes: vec![] }
    }

    /// The row itself: what is put around it is the class'.
    fn render(&self, row: &str) -> Result<String, Error> {
        Ok(row.into())
    }

    /// Its tokens are those of the class that asks with the most.
    fn prompt(&self, text: String) -> Result<Prompt, Error> {
        let asked = (0..self.all.len()).map(|class| self.asked(class, &text));
        let asked = asked.collect::<Result<Vec<_>, _>>()?;
        let tokens = asked.into_iter().filter_map(|prompt| prompt.tokens).max_by_key(Vec::len);
        Ok(Prompt::new(text, tokens))
    }

    fn draw(&self, prompts: &[Prompt], choice: Choice, stop: Stop) -> Result<Vec<Completion>, Error> {
        let pick = |(row, prompt)| {
            let mix = self.mix(prompt)?;
            Ok(mix.first + mix.shares.pick(choice, row, PURPOSE))
        };
        let classes = prompts.iter().enumerate().map(pick).collect::<Result<Vec<_>, Error>>()?;
        let rows = classes.iter().zip(prompts);
        let asked =
            rows.map(|(class, prompt)| self.asked(*class, &prompt.text)).collect::<Result<Vec<_>, _>>()?;
        let drawn = self.inner.draw(&asked, choice, stop)?;
        let told = |((class, prompt), completion): ((usize, Prompt), Completion)| {
            let tokens = completion.length();
            let prompt = completion.asked.map_or(prompt.text, |asked| asked.prompt);
            let asked = Asked { arm: class, name: Some(self.all[class].name.clone()), prompt, tokens };
            Completion { asked: Some(asked), ..completion }
        };
        Ok(classes.into_iter().zip(asked).zip(drawn).map(told).collect())
    }

    fn passes(&self, completions: usize) -> usize {
        self.inner.passes(completions)
    }

    fn learn(&mut self, lesson: &Lesson) -> Result<UpdateStats, Error> {
        let (mut rollouts, mut draws) = (vec![], vec![]);
        for Rollout { prompt, completion, advantage } in lesson.rollouts {
            let mut completion = completion.clone();
            let asked = completion.asked.as_mut().filter(|asked| asked.arm < self.all.len());
            let asked = asked.ok_or_else(|| Error::Foreign { text: completion.text.clone() })?;
            draws.push((asked.arm, *advantage));
            let prompt = self.asked(asked.arm, &prompt.text)?;
            // a teacher that is told has one arm
            (asked.arm, asked.name) = (0, None);
            rollouts.push(Rollout { prompt, completion, advantage: *advantage });
        }
        let of_inner = teach(self.inner.as_mut(), &Lesson { rollouts: &rollouts, ..*lesson })?;
        let of_classes = self.mixes[0].shares.learn(&draws, lesson.policy)?;
        Ok(of_inner.or(of_classes).unwrap_or_default())
    }

    fn save(&self) -> Saved {
        let mut saved = self.inner.save();
        self.shares().save(self.names(), PREFIX, &mut saved);
        saved
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let shares = self.shares().read(saved, &self.names(), PREFIX)?;
        self.inner.restore(saved)?;
        self.mixes[0].shares = shares;
        Ok(())
    }

    fn start_from(&mut self, saved: &Saved) -> Result<(), Error> {
        let shares = self.shares().read_learnt(saved, &self.names(), PREFIX)?;
        self.inner.start_from(saved)?;
        self.mixes[0].shares = shares;
        Ok(())
    }

    /// Without the classes: another asks it as it wants.
    fn export(&self, folder: &Path) -> Result<(), Error> {
        self.inner.export(folder)
    }

    fn account(&self, draw: Option<u64>) -> Option<Account> {
        self.inner.account(draw)
    }

    fn affords(&self, completions: usize) -> bool {
        self.inner.affords(completions)
    }
}

/// The shares of rows that are asked for in classes with shares of their own.
fn fixed(classes: &[LengthClass], of: SharesOf) -> Shares {
    // of a class with fewer tokens it takes more rows
    let rows = |class: &LengthClass| {
        let share = class.share.unwrap_or_default();
        let middle = (class.min + class.max.unwrap_or(2 * class.min)) as f64 / 2.0;
        if of == SharesOf::Tokens { share / middle.max(1.0) } else { share }
    };
    let rows: Vec<f64> = classes.iter().map(rows).collect();
    let all: f64 = rows.iter().sum();
    Shares::Fixed(rows.into_iter().map(|share| share / all).collect())
}
