//! Differentiable metrics of the fine-tuned weights, higher is better.
//!
//! The walk back needs a metric's value and its gradient at theta_T, and nothing else. The settings of a kind
//! stand in `dpg-spec`, in a file of the same name, where [`dpg_spec::metrics`] lists all kinds.

mod bitmap;
mod merged;
mod picture;
mod program;
mod rows;

use std::{ops::Range, path::Path, sync::Arc};

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Example};
use dpg_spec as spec;

pub use bitmap::Bitmap;
pub use picture::{Decoded, Picture, decode, film_strip};
pub use program::Program;
pub use rows::OverRows;

use crate::Error;

/// A differentiable function of a target's flat weight vector.
pub trait Metric: Send + Sync {
    /// Phi(theta) and what people read of it. Of two calls the proxies have the same names in the same order.
    fn score(&self, theta: &Tensor<1>, context: Context) -> Result<Score, Error>;

    /// The score and dPhi/dtheta `[n]`.
    fn score_and_gradient(&self, theta: &Tensor<1>, context: Context) -> Result<(Score, Tensor<1>), Error>;

    /// The same metric with the real numbers of `settings`, which differ from its own in nothing else: what a
    /// schedule changes. Whatever it read from a file or found in the model stays.
    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric>;

    /// The metric of each row of its data alone, if it is a mean over such.
    fn rows(&self) -> Vec<Arc<dyn Metric>> {
        vec![]
    }

    /// Patterns read back from theta, if the metric draws any.
    fn decoded(&self, _theta: &Tensor<1>) -> Vec<Decoded> {
        vec![]
    }

    /// The programs that measure for it, each with what it says of its version, once they have measured.
    fn programs(&self) -> Vec<(String, String)> {
        vec![]
    }

    /// Pictures of where the metric stands, if it has any.
    fn pictures(&self, _theta: &Tensor<1>) -> Vec<Picture> {
        vec![]
    }
}

/// What a metric has besides theta while it measures.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// A folder for files, which is there. What a metric makes in it is gone when the metric is.
    pub scratch: &'a Path,
    /// Asked before each pass and about as often where it waits; true ends what is being done with
    /// [`Error::Cancelled`]. How often it was asked is the progress.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Context<'_> {
    /// An error if what is being done is to end.
    fn go_on(self) -> Result<(), Error> {
        if (self.stop)() { Err(Error::Cancelled) } else { Ok(()) }
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

/// What metrics name besides the target. Whoever implements it reads and tokenises it while a metric is made; no
/// metric asks later.
pub trait Sources<E> {
    /// The folder of the target.
    fn folder(&self) -> &Path;

    /// Tokens of a file's examples.
    fn held_out(&self, held_out: &spec::HeldOut) -> Result<Vec<Example>, E>;

    /// Tokens of a prompt and of what follows it, which alone is scored.
    fn completion(&self, prompt: &str, completion: &str) -> Result<Example, E>;

    /// The questions of a file.
    fn questions(&self, choice: &spec::Choice) -> Result<Vec<Question>, E>;

    /// A model and its weights `[n]`, of the type and on the device of the target's. It has the target's tokens.
    fn model(&self, folder: &str) -> Result<(Arc<dyn CausalLm>, Tensor<1>), E>;

    /// The numbers of a file's vector.
    fn vector(&self, vector: &spec::VectorFile) -> Result<Vec<f64>, E>;
}

/// What metrics are made from.
pub(crate) struct Making<'a, E> {
    /// The target's architecture.
    lm: &'a Arc<dyn CausalLm>,
    /// Its initial weights `[n]`.
    theta: &'a Tensor<1>,
    /// How many examples may pass through it together.
    microbatch: usize,
    sources: &'a dyn Sources<E>,
}

impl<E> Making<'_, E> {
    /// Tokens of a file's examples as they are.
    fn held_out(&self, data: &spec::HeldOutData) -> Result<Vec<Example>, E> {
        self.sources.held_out(&spec::HeldOut::whole(data, self.lm.context()))
    }
}

macro_rules! implement {
    ($($file:ident: $kind:ident($settings:ident),)*) => {
        $(mod $file; pub use $file::*;)*

        impl<E: From<Error>> Making<'_, E> {
            fn metric(&self, metric: &spec::Metric) -> Result<Arc<dyn Metric>, E> {
                match metric {
                    $(spec::Metric::$kind(settings) => $file::make(settings, self),)*
                }
            }
        }
    };
}

spec::metrics!(implement);

/// The metric that a spec describes, for a target model at its initial weights `theta [n]`.
///
/// `microbatch` bounds how many texts pass through the model together. The metric holds the architecture, and of the
/// weights only what it compares with.
pub fn from_spec<E: From<Error>>(
    metric: &spec::Metric,
    lm: &Arc<dyn CausalLm>,
    theta: &Tensor<1>,
    microbatch: usize,
    sources: &dyn Sources<E>,
) -> Result<Arc<dyn Metric>, E> {
    Making { lm, theta, microbatch, sources }.metric(metric)
}

/// `log sum exp` of numbers, and what each has of the sum.
fn softmax(numbers: &[f64]) -> (f64, Vec<f64>) {
    let shift = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = numbers.iter().map(|x| (x - shift).exp()).sum();
    let log_sum = shift + sum.ln();
    (log_sum, numbers.iter().map(|x| (x - log_sum).exp()).collect())
}

/// Where parameters lie in the flat vector of the model's own weights.
fn ranges(lm: &dyn CausalLm, parameters: &spec::Parameters) -> Result<Vec<Range<usize>>, Error> {
    let mut ranges: Vec<Range<usize>> = vec![];
    for name in parameters.names() {
        let param = if *name == spec::NamedParameter::lm_head() {
            &lm.layout().model().params()[lm.head().param]
        } else {
            lm.layout().model().find(&name.0)?
        };
        if ranges.contains(&param.range()) {
            let reason = format!(
                "`{}` is there twice; name each parameter once (a tied head is its embedding)",
                name.0
            );
            return Err(Error::Metric { field: "parameter", reason });
        }
        ranges.push(param.range());
    }
    Ok(ranges)
}

/// A 2-D parameter in the orientation that a metric speaks of, as places in the flat vector of the model's own weights.
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
            (&lm.layout().model().params()[head.param], head.tied)
        } else {
            let param = lm.layout().model().find(&name.0)?;
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
