//! A model on this machine that instructs a frozen teacher: its policy is over the instructions, and what the teacher
//! answers is what is rewarded.

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use dpg_models::Frozen;
use dpg_spec::RubricGenerator;

use crate::{
    About, Account, Api, Choice, Completion, Error, Generator, Lesson, Local, Prompt, Saved, Stop,
    UpdateStats,
};

/// A writer of instructions and the teacher that follows them.
pub struct Rubric {
    settings: RubricGenerator,
    writer: Local,
    teacher: Api,
}

impl Rubric {
    /// Loads the writer as [`Local::load`] does, and opens the teacher as [`Api::new`] does.
    pub fn load(
        settings: RubricGenerator,
        devices: &[Device],
        frozen: Option<Arc<Frozen>>,
    ) -> Result<Self, Error> {
        let teacher = Api::new(settings.teacher.clone())?;
        Ok(Self { writer: Local::load(settings.writer.clone(), devices, frozen)?, teacher, settings })
    }
}

impl Generator for Rubric {
    fn about(&self) -> About {
        About { kind: "a local model that instructs a teacher", ..self.writer.about() }
    }

    /// The row itself: the writer is asked in its template, and the teacher in its own.
    fn render(&self, row: &str) -> Result<String, Error> {
        Ok(row.into())
    }

    /// Its tokens are those that the writer is asked with.
    fn prompt(&self, text: String) -> Result<Prompt, Error> {
        let tokens = self.writer.prompt(self.writer.render(&text)?)?.tokens;
        Ok(Prompt::new(text, tokens))
    }

    /// The text of a completion is the teacher's; its tokens and their log-probabilities are the instruction's, from which
    /// the writer learns.
    fn draw(&self, prompts: &[Prompt], choice: Choice, stop: Stop) -> Result<Vec<Completion>, Error> {
        let instructions = self.writer.draw(prompts, choice, stop)?;
        let told = |(prompt, instruction): (&Prompt, &Completion)| {
            self.teacher.prompt(self.settings.told(&instruction.text, &prompt.text))
        };
        let told = prompts.iter().zip(&instructions).map(told).collect::<Result<Vec<_>, _>>()?;
        let answers = self.teacher.draw(&told, choice, stop)?;
        let both = |(answer, instruction): (Completion, Completion)| Completion {
            tokens: instruction.tokens,
            log_probs: instruction.log_probs,
            ..answer
        };
        Ok(answers.into_iter().zip(instructions).map(both).collect())
    }

    fn passes(&self, completions: usize) -> usize {
        self.writer.passes(completions) + self.teacher.passes(completions)
    }

    fn learn(&mut self, lesson: &Lesson) -> Result<UpdateStats, Error> {
        self.writer.learn(lesson)
    }

    fn save(&self) -> Saved {
        self.writer.save()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        self.writer.restore(saved)
    }

    fn start_from(&mut self, saved: &Saved) -> Result<(), Error> {
        self.writer.start_from(saved)
    }

    /// The writer of instructions.
    fn export(&self, folder: &Path) -> Result<(), Error> {
        self.writer.export(folder)
    }

    fn account(&self, draw: Option<u64>) -> Option<Account> {
        self.teacher.account(draw)
    }

    fn affords(&self, completions: usize) -> bool {
        self.teacher.affords(completions)
    }
}
