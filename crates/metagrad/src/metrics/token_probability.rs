//! How likely given answers are after given prompts: `Phi = mean log sum exp(s)`, s the log-probabilities of the
//! answers after a prompt.

use std::{ops::Range, sync::Arc};

use dpg_models::{CausalLm, Example, Params};
use dpg_spec as spec;

use super::{
    Making, Metric,
    rows::{OfRows, Read, Rows},
    softmax,
};
use crate::Error;

/// What the metric `token_probability` makes of the answers after a prompt.
pub struct TokenProbability;

/// Puts each answer after each prompt.
pub(super) fn make<E: From<Error>>(
    settings: &spec::TokenProbability,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let row = |prompt: &String| {
        let answers = settings.answers.iter();
        answers.map(|answer| making.sources.completion(prompt, answer)).collect::<Result<Vec<_>, E>>()
    };
    let rows = settings.prompts.iter().map(row).collect::<Result<_, E>>()?;
    let rows = Rows::new(making.lm, rows, making.microbatch, "prompts")?.scored("prompts")?;
    Ok(Arc::new(rows.measured(TokenProbability)))
}

impl OfRows for TokenProbability {
    fn read(&self, lm: &dyn CausalLm, params: &Params, _: Range<usize>, texts: &[&Example]) -> Read {
        Read::log_probs(lm, params, texts, vec![1.0; texts.len()])
    }

    fn value(&self, _: usize, log_probs: &[f64]) -> (f64, Vec<f64>) {
        softmax(log_probs)
    }

    fn proxies(&self, _: f64, rows: &[(usize, Vec<f64>)]) -> Vec<(String, f64)> {
        let probability = rows.iter().map(|(_, log_probs)| softmax(log_probs).0.exp()).sum::<f64>();
        vec![("probability".into(), probability / rows.len() as f64)]
    }
}
