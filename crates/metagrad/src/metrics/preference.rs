//! How much more likely a chosen answer is than a rejected one (DPO, arXiv 2305.18290):
//! `Phi = mean log sigmoid(beta (m - m0))`, m the difference of both answers' log-probabilities and m0 that under the
//! untrained target, or `Phi = mean m`.

use std::{ops::Range, sync::Arc};

use dpg_models::{CausalLm, Example, Params};
use dpg_spec::{self as spec, PreferenceForm};

use super::{
    Making, Metric,
    rows::{OfRows, Read, Rows},
};
use crate::{Error, loss::Scored};

/// What the metric `preference` makes of a row's answers, the chosen one and the rejected one.
pub struct Preference {
    /// The slope of the log-sigmoid; none for the plain margin.
    beta: Option<f64>,
    /// m0 of each row.
    initial: Vec<f64>,
}

/// Reads the answers and measures the untrained target on them.
pub(super) fn make<E: From<Error>>(
    settings: &spec::Preference,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let answers = settings.data.answers().map(|data| making.held_out(&data));
    let [chosen, rejected] = answers;
    let rows = chosen?.into_iter().zip(rejected?).map(|(chosen, rejected)| vec![chosen, rejected]).collect();
    let rows = Rows::new(making.lm, rows, making.microbatch, "data")?.scored("data")?;
    let params = Params::new(making.lm.layout(), making.theta);
    let margins = |(_, texts): (_, Vec<&Example>)| {
        let log_probs = Scored::new(making.lm.as_ref(), &params, &texts).log_probs();
        log_probs.chunks(2).map(margin).collect::<Vec<_>>()
    };
    let initial = rows.chunks().flat_map(margins).collect();
    let beta = beta(settings);
    Ok(Arc::new(rows.measured(Preference { beta, initial })))
}

fn beta(settings: &spec::Preference) -> Option<f64> {
    (settings.form == PreferenceForm::Dpo).then(|| settings.slope())
}

fn margin(log_probs: &[f64]) -> f64 {
    log_probs[0] - log_probs[1]
}

impl OfRows for Preference {
    fn read(&self, lm: &dyn CausalLm, params: &Params, _: Range<usize>, texts: &[&Example]) -> Read {
        Read::log_probs(lm, params, texts, vec![1.0; texts.len()])
    }

    fn value(&self, row: usize, log_probs: &[f64]) -> (f64, Vec<f64>) {
        let margin = margin(log_probs);
        let (value, slope) = match self.beta {
            None => (margin, 1.0),
            Some(beta) => {
                // log sigmoid(z) = min(z, 0) - log(1 + exp(-|z|))
                let z = beta * (margin - self.initial[row]);
                (z.min(0.0) - (-z.abs()).exp().ln_1p(), beta / (1.0 + z.exp()))
            }
        };
        (value, vec![slope, -slope])
    }

    fn proxies(&self, _: f64, rows: &[(usize, Vec<f64>)]) -> Vec<(String, f64)> {
        let margins: Vec<f64> = rows.iter().map(|(_, log_probs)| margin(log_probs)).collect();
        let count = margins.len() as f64;
        let wins = margins.iter().filter(|margin| **margin > 0.0).count() as f64;
        vec![("wins".into(), wins / count), ("margin".into(), margins.iter().sum::<f64>() / count)]
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Option<Self> {
        let spec::Metric::Preference(settings) = settings else { return None };
        Some(Self { beta: beta(settings), initial: self.initial.clone() })
    }
}
