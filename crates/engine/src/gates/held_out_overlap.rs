//! Rows that copy what the metric holds out.

use std::collections::{BTreeMap, HashSet};

use dpg_dataset::Example;
use dpg_spec::HeldOutOverlap;

use super::{Around, Candidate, Gate};
use crate::{Error, HeldOutTexts};

/// A text of fewer words is not looked for: it stands in many others.
const FEWEST: usize = 3;

/// The runs of words of all held-out texts.
pub(crate) struct Copies {
    settings: HeldOutOverlap,
    /// By how many words they have: shorter ones are whole texts.
    runs: BTreeMap<usize, HashSet<String>>,
}

impl Copies {
    /// Of the texts of a metric's files.
    pub(crate) fn of(settings: HeldOutOverlap, held_out: &HeldOutTexts) -> Self {
        let mut runs = BTreeMap::<usize, HashSet<String>>::new();
        for text in held_out.texts() {
            let words = words(&text);
            let length = settings.words.min(words.len());
            if length >= FEWEST.min(settings.words) {
                runs.entry(length).or_default().extend(words.windows(length).map(|run| run.join(" ")));
            }
        }
        Self { settings, runs }
    }

    /// Whether there is nothing to copy.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether more of a row is copied than may be.
    pub(crate) fn has(&self, example: &Example) -> bool {
        let words = words(&whole(example));
        let copied = |(length, runs): (&usize, &HashSet<String>)| {
            words.windows(*length).filter(|run| runs.contains(&run.join(" "))).count()
        };
        let copied: usize = self.runs.iter().map(copied).sum();
        let all = (words.len() + 1).saturating_sub(self.settings.words).max(1);
        copied > 0 && copied as f64 / all as f64 > self.settings.share
    }
}

pub(super) struct Held(Copies);

#[expect(clippy::unnecessary_wraps, reason = "other gates may fail to open")]
pub(super) fn open(settings: &HeldOutOverlap, around: Around) -> Result<Held, Error> {
    Ok(Held(Copies::of(settings.clone(), around.held_out)))
}

impl Gate for Held {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        Ok(!self.0.has(row.example))
    }
}

/// Runs of letters and digits, in lower case.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// All that an example says, in a text.
pub(crate) fn whole(example: &Example) -> String {
    match example {
        Example::Text(text) => text.clone(),
        Example::PromptCompletion { prompt, completion } => format!("{prompt}\n{completion}"),
        Example::Messages(conversation) => {
            let contents = conversation.turns.iter().filter_map(|turn| turn.get("content")?.as_str());
            contents.collect::<Vec<_>>().join("\n")
        }
    }
}
