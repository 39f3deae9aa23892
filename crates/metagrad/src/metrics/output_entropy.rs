//! How open predictions are: `Phi = mean H(p) = log V - mean KL(p || uniform)`, V the number of tokens.

use std::{ops::Range, sync::Arc};

use dpg_models::{CausalLm, Example, Params};
use dpg_spec as spec;

use super::{
    Making, Metric,
    rows::{OfRows, Read, Rows},
};
use crate::{Error, loss::Divergences};

/// What the metric `output_entropy` makes of a text.
pub struct OutputEntropy {
    /// `log V`.
    most: f64,
}

/// Reads the texts.
pub(super) fn make<E: From<Error>>(
    settings: &spec::OutputEntropy,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let rows = making.held_out(&settings.data)?.into_iter().map(|text| vec![text]).collect();
    let rows = Rows::new(making.lm, rows, making.microbatch, "data")?.scored("data")?;
    let most = (making.lm.vocab_size() as f64).ln();
    Ok(Arc::new(rows.measured(OutputEntropy { most })))
}

impl OfRows for OutputEntropy {
    fn read(&self, lm: &dyn CausalLm, params: &Params, _: Range<usize>, texts: &[&Example]) -> Read {
        Read::divergences(Divergences::new(lm, params, texts, |_, logits| logits.zeros_like()))
    }

    fn value(&self, _: usize, divergence: &[f64]) -> (f64, Vec<f64>) {
        (self.most - divergence[0], vec![-1.0])
    }

    fn proxies(&self, value: f64, _: &[(usize, Vec<f64>)]) -> Vec<(String, f64)> {
        vec![("entropy".into(), value), ("effective_tokens".into(), value.exp())]
    }
}
