//! The held-out texts that metrics compare with: each file is read once, when a problem is loaded.

use std::path::Path;

use dpg_dataset::{Columns, Example, Question, read_examples, read_questions};
use dpg_models::Model;
use dpg_spec::{Choice, HeldOut, HeldOutData, LossOn, Metric};

use crate::{
    Error,
    encode::{Encoding, encode},
    gates::whole,
};

/// The examples and the questions of a metric's files.
#[derive(Debug, Default)]
pub struct HeldOutTexts {
    examples: Vec<(HeldOutData, Vec<Example>)>,
    questions: Vec<(Choice, Vec<Question>)>,
}

impl HeldOutTexts {
    /// Reads the files of a metric, which are local.
    pub fn read(metric: &Metric) -> Result<Self, Error> {
        let mut this = Self::default();
        for data in metric.held_out() {
            if this.find(&data).is_none() {
                let examples = read_examples(Path::new(&data.path), &columns(&data)?, data.limit)?;
                this.examples.push((data, examples));
            }
        }
        for choice in metric.questions() {
            if this.questions(choice).is_empty() {
                this.questions.push((choice.clone(), read_questions(choice)?));
            }
        }
        Ok(this)
    }

    fn find(&self, data: &HeldOutData) -> Option<&[Example]> {
        self.examples.iter().find(|(other, _)| other == data).map(|(_, examples)| examples.as_slice())
    }

    /// The questions that one of the metrics asks.
    pub(crate) fn questions(&self, choice: &Choice) -> &[Question] {
        let found = self.questions.iter().find(|(other, _)| other == choice);
        found.map(|(_, questions)| questions.as_slice()).unwrap_or_default()
    }

    /// Examples that the metric itself says would help: its held-out texts, if it has any.
    pub fn helpful(&self, metric: &Metric) -> Vec<Example> {
        metric.helpful().iter().flat_map(|data| self.find(data).unwrap_or_default()).cloned().collect()
    }

    /// All that the files say: examples as they are, and questions with their right answers.
    pub(crate) fn texts(&self) -> Vec<String> {
        let examples = self.examples.iter().flat_map(|(_, examples)| examples).map(whole);
        let answered = |question: &Question| question.prompt.clone() + &question.options[question.right];
        let questions = self.questions.iter().flat_map(|(_, questions)| questions).map(answered);
        examples.chain(questions).collect()
    }

    /// Tokens of the examples of one of the metrics. What is scored is as long as it is: an example that would
    /// be cut is an error.
    pub(crate) fn encode(
        &self,
        held_out: &HeldOut,
        model: &Model,
        sequence_length: usize,
    ) -> Result<Vec<dpg_models::Example>, Error> {
        let whole = matches!(columns(&held_out.data)?, Columns::Text(_)) && !held_out.last_word;
        let encoding = Encoding {
            sequence_length: held_out.sequence_length.unwrap_or(sequence_length),
            loss_on: if whole { LossOn::All } else { LossOn::Completion },
            append_eos: held_out.append_eos,
        };
        let path = Path::new(&held_out.data.path);
        let mut examples = self.find(&held_out.data).unwrap_or_default().to_vec();
        if held_out.last_word {
            examples = examples.into_iter().map(before_last_word).collect();
        }
        let failed = |row| move |error| Error::in_row(row)(error).in_file(path);
        (1..)
            .zip(&examples)
            .map(|(row, example)| match encode(model, example, encoding).map_err(failed(row))? {
                (example, 0) => Ok(example),
                (example, lost) => {
                    let (length, most) = (example.tokens.len() + lost, encoding.sequence_length);
                    let remedy = if most == model.lm.context() {
                        ", which is all that the model reads; shorten the row"
                    } else {
                        "; raise `metric.sequence_length` or shorten the row"
                    };
                    let reason = format!(
                        "row {row} of `{}` has {length} tokens and {lost} scored ones would be cut at {most}{remedy}",
                        path.display()
                    );
                    Err(Error::setting("metric.data", reason))
                }
            })
            .collect()
    }
}

fn columns(data: &HeldOutData) -> Result<Columns, Error> {
    Columns::of_held_out(data).ok_or_else(|| {
        Error::setting("metric.data", "name `column`, or `prompt` and `completion`, or `messages`")
    })
}

/// A text as its last word, with the space before it, after all others.
fn before_last_word(example: Example) -> Example {
    let Example::Text(text) = example else { return example };
    let text = text.trim_end();
    let (prompt, completion) = text.split_at(text.rfind(char::is_whitespace).unwrap_or(0));
    Example::PromptCompletion { prompt: prompt.into(), completion: completion.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_what_follows_the_last_space() {
        let split = |text: &str| match before_last_word(Example::Text(text.into())) {
            Example::PromptCompletion { prompt, completion } => (prompt, completion),
            other => panic!("{other:?}"),
        };
        assert_eq!(split("el perro come\n"), ("el perro".into(), " come".into()));
        assert_eq!(split("come"), (String::new(), "come".into()));
    }
}
