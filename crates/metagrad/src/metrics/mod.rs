//! Differentiable metrics of the fine-tuned weights, higher is better.
//!
//! The walk back needs a metric's value and its gradient at theta_T, and nothing else.

mod bitmap;
mod held_out_loss;
mod picture;
mod sum;
mod weight_norm;
mod weight_pattern;

use std::sync::Arc;

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Example};
use dpg_spec as spec;

pub use bitmap::Bitmap;
pub use held_out_loss::HeldOutLoss;
pub use picture::{Decoded, Picture, decode, film_strip};
pub use sum::Sum;
pub use weight_norm::WeightNorm;
pub use weight_pattern::WeightPattern;

use crate::Error;

/// A differentiable function of a target's flat weight vector.
pub trait Metric: Send + Sync {
    /// Phi(theta) and what people read of it.
    fn score(&self, theta: &Tensor<1>) -> Result<Score, Error>;

    /// The score and dPhi/dtheta `[n]`.
    fn score_and_gradient(&self, theta: &Tensor<1>) -> Result<(Score, Tensor<1>), Error>;

    /// The same metric with the real numbers of `settings`, which differ from its own in nothing else: what a
    /// schedule changes. Whatever it read from a file or found in the model stays.
    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric>;

    /// Patterns read back from theta, if the metric draws any.
    fn decoded(&self, _theta: &Tensor<1>) -> Vec<Decoded> {
        vec![]
    }

    /// Pictures of where the metric stands, if it has any.
    fn pictures(&self, _theta: &Tensor<1>) -> Vec<Picture> {
        vec![]
    }
}

/// A metric's value with the figures that people read instead of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    /// Phi, higher is better.
    pub value: f64,
    /// Human proxies by name: `pixel_accuracy`, `norm`, `perplexity` and the like.
    pub proxies: Vec<(String, f64)>,
}

impl Score {
    /// Itself, or an error if Phi is NaN or infinite.
    pub fn finite(self) -> Result<Self, Error> {
        if self.value.is_finite() {
            Ok(self)
        } else {
            Err(Error::NotFinite { what: "the metric of the fine-tuned target", step: None })
        }
    }
}

/// The metric that a spec describes, for a target model at its initial weights `theta [n]`.
///
/// `held_out` reads and tokenises held-out examples; `microbatch` bounds how many of them pass
/// through the model together. The metric holds the architecture, and of the weights only what it compares with.
pub fn from_spec<E: From<Error>>(
    metric: &spec::Metric,
    lm: &Arc<dyn CausalLm>,
    theta: &Tensor<1>,
    microbatch: usize,
    held_out: &dyn Fn(&spec::HeldOut) -> Result<Vec<Example>, E>,
) -> Result<Arc<dyn Metric>, E> {
    Ok(match metric {
        spec::Metric::WeightPattern(settings) => Arc::new(WeightPattern::new(settings, lm.as_ref(), theta)?),
        spec::Metric::WeightNorm(settings) => Arc::new(WeightNorm::new(settings, lm.as_ref(), theta)?),
        spec::Metric::HeldOutLoss(settings) => {
            Arc::new(HeldOutLoss::new(Arc::clone(lm), held_out(settings)?, microbatch)?)
        }
        spec::Metric::Sum(sum) => {
            let term = |term: &spec::SumTerm| {
                Ok((term.weight, from_spec(&term.metric, lm, theta, microbatch, held_out)?))
            };
            Arc::new(Sum::new(sum.terms.iter().map(term).collect::<Result<_, E>>()?))
        }
    })
}

/// A 2-D parameter in the orientation that a metric speaks of, as places in the flat vector.
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    offset: usize,
    transposed: bool,
}

impl Matrix {
    /// `lm_head` as `[hidden, vocab]`, or a parameter by its Hugging Face name in its stored
    /// orientation.
    pub(crate) fn find(lm: &dyn CausalLm, name: &spec::NamedParameter) -> Result<Self, Error> {
        let (param, transposed) = if *name == spec::NamedParameter::lm_head() {
            let head = lm.head();
            (&lm.layout().params()[head.param], head.tied)
        } else {
            let param = lm.layout().find(&name.0)?;
            (param, param.transposed)
        };
        let [mut rows, mut columns] = param.shape[..] else {
            let reason = format!(
                "`{}` has shape {:?}; a pattern needs a parameter with two dimensions",
                name.0, param.shape
            );
            return Err(Error::Metric { field: "parameter", reason });
        };
        if transposed {
            (rows, columns) = (columns, rows);
        }
        Ok(Self { rows, columns, offset: param.offset, transposed })
    }

    /// Place of an element in the flat vector.
    pub(crate) fn place(&self, row: usize, column: usize) -> usize {
        self.offset + if self.transposed { column * self.rows + row } else { row * self.columns + column }
    }
}
