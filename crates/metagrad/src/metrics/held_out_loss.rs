//! Minus the loss on held-out text: the mean over examples of the mean cross-entropy of an
//! example's scored tokens.

use std::{ops::Range, sync::Arc};

use dpg_models::{CausalLm, Example, Params};
use dpg_spec as spec;

use super::{
    Making, Metric,
    rows::{OfRows, OverRows, Read, Rows},
};
use crate::{Error, loss::of_loss};

/// The metric `held_out_loss`.
pub type HeldOutLoss = OverRows<Loss>;

/// Reads losses.
pub struct Loss;

impl HeldOutLoss {
    /// The loss of `lm` on `examples`.
    pub fn new(lm: &Arc<dyn CausalLm>, examples: Vec<Example>, microbatch: usize) -> Result<Self, Error> {
        let rows = examples.into_iter().map(|example| vec![example]).collect();
        Ok(Rows::new(lm, rows, microbatch, "data")?.scored("data")?.measured(Loss))
    }
}

/// Reads the examples.
pub(super) fn make<E: From<Error>>(
    settings: &spec::HeldOut,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let examples = making.sources.held_out(settings)?;
    Ok(Arc::new(HeldOutLoss::new(making.lm, examples, making.microbatch)?))
}

impl OfRows for Loss {
    fn read(&self, lm: &dyn CausalLm, params: &Params, _: Range<usize>, texts: &[&Example]) -> Read {
        let shares = texts.iter().map(|text| of_loss(text.scored_len())).collect();
        Read::log_probs(lm, params, texts, shares)
    }

    fn value(&self, _: usize, losses: &[f64]) -> (f64, Vec<f64>) {
        (-losses[0], vec![-1.0])
    }

    fn proxies(&self, value: f64, _: &[(usize, Vec<f64>)]) -> Vec<(String, f64)> {
        vec![("loss".into(), -value), ("perplexity".into(), (-value).exp())]
    }
}
