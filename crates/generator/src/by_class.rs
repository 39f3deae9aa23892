//! A generator of whose prompts is learnt which to ask: the shares of their classes are a policy, as the arms of a teacher
//! are. Whatever else the generator learns, it learns as ever.

use std::path::Path;

use dpg_spec::{Policy, PromptClasses};
use serde_json::Value;

use crate::{
    About, Account, Asked, Chance, Choice, Completion, Error, Generator, Lesson, Prompt, Rollout, Saved,
    Stop, UpdateStats, shares::Shares, teach,
};

/// Before the names of what is saved of the shares.
const PREFIX: &str = "prompts_";

/// A generator and the shares of the classes of its prompts.
pub struct ByClass {
    inner: Box<dyn Generator>,
    names: Vec<String>,
    shares: Shares,
    learning_rate: Option<f64>,
}

impl ByClass {
    /// Of prompts in these classes.
    pub fn new(inner: Box<dyn Generator>, settings: &PromptClasses, names: Vec<String>) -> Self {
        let shares = Shares::uniform(names.len());
        Self { inner, names, shares, learning_rate: settings.learning_rate }
    }

    fn saved_names(&self) -> Value {
        self.names.iter().map(String::as_str).collect()
    }

    fn number(&self, prompt: &Prompt) -> Result<usize, Error> {
        let number = self.names.iter().position(|name| Some(name) == prompt.class.as_ref());
        number.ok_or_else(|| Error::Foreign { text: prompt.text.clone() })
    }

    /// How a completion was asked for: the arms are those of the generator for each class, `arms` of them.
    fn asked(&self, prompt: &Prompt, completion: &Completion, arms: usize) -> Result<Asked, Error> {
        let class = self.number(prompt)?;
        let name = self.names[class].clone();
        let tokens = completion.length();
        Ok(match completion.asked.clone() {
            None => Asked { arm: class, name: Some(name), prompt: prompt.text.clone(), tokens },
            Some(Asked { arm, name: of_arm, prompt, .. }) => {
                let name = of_arm.map_or(name.clone(), |arm| joined(&name, &arm));
                Asked { arm: class * arms + arm, name: Some(name), prompt, tokens }
            }
        })
    }

    /// How many arms the generator has of its own; one without any counts as one.
    fn arms(&self) -> usize {
        self.inner.about().arms.len().max(1)
    }
}

/// The name of an arm for the prompts of a class.
fn joined(class: &str, arm: &str) -> String {
    format!("{class}, {arm}")
}

impl Generator for ByClass {
    fn about(&self) -> About {
        let About { kind, parameters, arms: of_inner, .. } = self.inner.about();
        let chance = |(name, probability): (&String, f64)| Chance { name: name.clone(), probability };
        let classes: Vec<_> = self.names.iter().zip(self.shares.probabilities()).map(chance).collect();
        let of_class = |class: &Chance| {
            let arm = |arm: &Chance| Chance {
                name: joined(&class.name, &arm.name),
                probability: class.probability * arm.probability,
            };
            of_inner.iter().map(arm).collect::<Vec<_>>()
        };
        let arms =
            if of_inner.is_empty() { classes.clone() } else { classes.iter().flat_map(of_class).collect() };
        let parameters = parameters.map(|of_inner| of_inner + self.shares.parameters());
        About { kind, parameters, arms, classes }
    }

    fn render(&self, row: &str) -> Result<String, Error> {
        self.inner.render(row)
    }

    fn prompt(&self, text: String) -> Result<Prompt, Error> {
        self.inner.prompt(text)
    }

    fn draw(&self, prompts: &[Prompt], choice: Choice, stop: Stop) -> Result<Vec<Completion>, Error> {
        let (drawn, arms) = (self.inner.draw(prompts, choice, stop)?, self.arms());
        let told = |(prompt, completion): (&Prompt, Completion)| {
            Ok(Completion { asked: Some(self.asked(prompt, &completion, arms)?), ..completion })
        };
        prompts.iter().zip(drawn).map(told).collect()
    }

    fn passes(&self, completions: usize) -> usize {
        self.inner.passes(completions)
    }

    fn learn(&mut self, lesson: &Lesson) -> Result<UpdateStats, Error> {
        let (arms, mut rollouts, mut draws) = (self.arms(), vec![], vec![]);
        for Rollout { prompt, completion, advantage } in lesson.rollouts {
            let mut completion = completion.clone();
            let asked = completion.asked.as_mut().filter(|asked| asked.arm / arms < self.names.len());
            let asked = asked.ok_or_else(|| Error::Foreign { text: completion.text.clone() })?;
            draws.push((asked.arm / arms, *advantage));
            (asked.arm, asked.name) = (asked.arm % arms, None);
            rollouts.push(Rollout { prompt: prompt.clone(), completion, advantage: *advantage });
        }
        let of_inner = teach(self.inner.as_mut(), &Lesson { rollouts: &rollouts, ..*lesson })?;
        let learning_rate = self.learning_rate.unwrap_or(lesson.policy.learning_rate);
        let of_shares = self.shares.learn(&draws, &Policy { learning_rate, ..lesson.policy.clone() })?;
        Ok(of_inner.or(of_shares).unwrap_or_default())
    }

    fn save(&self) -> Saved {
        let mut saved = self.inner.save();
        self.shares.save(self.saved_names(), PREFIX, &mut saved);
        saved
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let shares = self.shares.read(saved, &self.saved_names(), PREFIX)?;
        self.inner.restore(saved)?;
        self.shares = shares;
        Ok(())
    }

    /// The shares begin anew where the file has other classes by now.
    fn start_from(&mut self, saved: &Saved) -> Result<(), Error> {
        self.inner.start_from(saved)?;
        if let Ok(shares) = self.shares.read_learnt(saved, &self.saved_names(), PREFIX) {
            self.shares = shares;
        }
        Ok(())
    }

    fn export(&self, folder: &Path) -> Result<(), Error> {
        self.inner.export(folder)
    }

    fn account(&self, draw: Option<u64>) -> Option<Account> {
        self.inner.account(draw)
    }

    fn accounts(&self) -> Vec<(String, Account)> {
        self.inner.accounts()
    }

    fn affords(&self, completions: usize) -> bool {
        self.inner.affords(completions)
    }
}
