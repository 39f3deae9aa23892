//! How near predictions stay to a reference model's: `Phi = -mean KL(p || q)`, p the target's and q the reference's.
//!
//! The reference reads the texts once, when the metric is made. Its last hidden states `[tokens, hidden]` are kept; its
//! logits, which are many more, are made of them chunk by chunk.

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Dual, Example, MatmulPrecision, Params, check_tokens, hidden_at};
use dpg_spec as spec;

use super::{
    Making, Metric,
    rows::{OfRows, Read, Rows},
};
use crate::{
    Error,
    loss::{Divergences, scored},
};

/// What the metric `divergence` makes of a text.
pub struct Divergence {
    /// The reference's last hidden states at the scored tokens of each row, `[tokens, hidden]`.
    states: Vec<Tensor<2>>,
    /// Its head, `[hidden, vocab]`.
    head: Tensor<2>,
}

/// Reads the texts and has the reference read them.
pub(super) fn make<E: From<Error>>(
    settings: &spec::Divergence,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let texts = making.held_out(&settings.data)?;
    let (lm, theta) = match &settings.reference {
        Some(folder) => making.sources.model(folder)?,
        None => (Arc::clone(making.lm), making.theta.clone()),
    };
    let (tokens, known) = (making.lm.vocab_size(), lm.vocab_size());
    if known != tokens {
        let reason =
            format!("it knows {known} tokens and the target {tokens}; name a model with the same tokens");
        return Err(Error::Metric { field: "reference", reason }.into());
    }
    for (row, text) in (1..).zip(&texts) {
        check_tokens(lm.as_ref(), &text.tokens, || format!("held-out example {row}, for the reference,"))
            .map_err(Error::from)?;
    }
    let rows = texts.into_iter().map(|text| vec![text]).collect();
    let rows = Rows::new(making.lm, rows, making.microbatch, "data")?.scored("data")?;
    let params = Params::new(lm.layout(), &theta);
    let states = |(_, texts): (_, Vec<&Example>)| {
        let places = scored(&texts);
        let all = hidden_at(lm.as_ref(), &params, &texts, &places.concat()).primal;
        let mut first = 0;
        let of_row = |places: Vec<_>| {
            first += places.len();
            all.clone().narrow(0, first - places.len(), places.len())
        };
        places.into_iter().map(of_row).collect::<Vec<_>>()
    };
    let states = rows.chunks().flat_map(states).collect();
    // a frozen one may be of a narrower type
    let head = lm.head().weight(&params).primal.cast(theta.dtype());
    Ok(Arc::new(rows.measured(Divergence { states, head })))
}

impl OfRows for Divergence {
    fn read(&self, lm: &dyn CausalLm, params: &Params, rows: Range<usize>, texts: &[&Example]) -> Read {
        let (states, head) = (Tensor::cat(self.states[rows].to_vec(), 0), self.head.clone());
        Read::divergences(Divergences::new(lm, params, texts, move |places, _| {
            let states: Dual<2> = states.clone().narrow(0, places.start, places.len()).into();
            states.matmul(head.clone().into(), MatmulPrecision::F32).primal
        }))
    }

    fn value(&self, _: usize, divergence: &[f64]) -> (f64, Vec<f64>) {
        (-divergence[0], vec![-1.0])
    }

    fn proxies(&self, value: f64, rows: &[(usize, Vec<f64>)]) -> Vec<(String, f64)> {
        let worst = rows.iter().map(|(_, divergence)| divergence[0]).fold(0.0, f64::max);
        vec![("divergence".into(), -value), ("worst".into(), worst)]
    }
}
