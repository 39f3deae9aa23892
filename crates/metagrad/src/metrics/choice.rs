//! Multiple-choice questions: `Phi = mean log softmax(s)_right`, s the options' log-probabilities over their lengths.

use std::{ops::Range, sync::Arc};

use dpg_models::{CausalLm, Example, Params};
use dpg_spec::{self as spec, Normalise};

use super::{
    Making, Metric,
    rows::{OfRows, Read, Rows},
    softmax,
};
use crate::Error;

/// A question as the target reads it.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its options, each after the question and scored alone.
    pub options: Vec<Example>,
    /// The characters of each option.
    pub characters: Vec<usize>,
    /// Which of them is right.
    pub right: usize,
}

/// What the metric `choice` makes of a row's options.
pub struct Choice(Vec<Asked>);

/// A question that was asked.
struct Asked {
    right: usize,
    /// What each option's log-probability is divided by.
    lengths: Vec<f64>,
}

/// Reads the questions.
pub(super) fn make<E: From<Error>>(
    settings: &spec::Choice,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let questions = making.sources.questions(settings)?;
    let asked = |question: &Question| {
        let tokens = question.options.iter().map(Example::scored_len);
        let lengths: Vec<usize> = match settings.normalise {
            Normalise::None => tokens.map(|_| 1).collect(),
            Normalise::Characters => question.characters.clone(),
            Normalise::Tokens => tokens.collect(),
        };
        Asked { right: question.right, lengths: lengths.into_iter().map(|length| length as f64).collect() }
    };
    let kind = Choice(questions.iter().map(asked).collect());
    let rows = questions.into_iter().map(|question| question.options).collect();
    let rows = Rows::new(making.lm, rows, making.microbatch, "data")?.scored("data")?;
    Ok(Arc::new(rows.measured(kind)))
}

impl OfRows for Choice {
    fn read(&self, lm: &dyn CausalLm, params: &Params, rows: Range<usize>, texts: &[&Example]) -> Read {
        let lengths = self.0[rows].iter().flat_map(|asked| &asked.lengths);
        Read::log_probs(lm, params, texts, lengths.map(|length| 1.0 / length).collect())
    }

    fn value(&self, row: usize, numbers: &[f64]) -> (f64, Vec<f64>) {
        let right = self.0[row].right;
        let (log_sum, shares) = softmax(numbers);
        let slope = |(option, share): (usize, f64)| if option == right { 1.0 - share } else { -share };
        (numbers[right] - log_sum, shares.into_iter().enumerate().map(slope).collect())
    }

    fn proxies(&self, _: f64, rows: &[(usize, Vec<f64>)]) -> Vec<(String, f64)> {
        let count = rows.len() as f64;
        // of options that are as likely the first counts, as numpy's argmax has it
        let likeliest = |numbers: &[f64]| {
            (1..numbers.len())
                .fold(0, |best, option| if numbers[option] > numbers[best] { option } else { best })
        };
        let is_right = |(row, numbers): &&(usize, Vec<f64>)| likeliest(numbers) == self.0[*row].right;
        let right = rows.iter().filter(is_right).count() as f64;
        let share = |(row, numbers): &(usize, Vec<f64>)| softmax(numbers).1[self.0[*row].right];
        let share: f64 = rows.iter().map(share).sum();
        vec![("accuracy".into(), right / count), ("probability".into(), share / count)]
    }
}
