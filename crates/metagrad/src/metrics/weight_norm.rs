//! Minus the l2 norm of parameters taken as one vector: `Phi = -||W||`, gradient `-W / ||W||`.

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;
use dpg_models::{CausalLm, zeros_like};
use dpg_spec as spec;

use super::{Context, Making, Metric, Score, ranges};
use crate::Error;

/// The metric `weight_norm`.
#[derive(Clone)]
pub struct WeightNorm {
    ranges: Vec<Range<usize>>,
    /// The norm before fine-tuning.
    initial: f64,
}

impl WeightNorm {
    /// The norm of parameters of a model whose initial weights, its own and all of them, are `theta [n]`.
    pub fn new(settings: &spec::WeightNorm, lm: &dyn CausalLm, theta: &Tensor<1>) -> Result<Self, Error> {
        Ok(Self::of(ranges(lm, &settings.parameter)?, theta))
    }

    /// The norm of parts of a flat vector that is `theta` at first.
    pub fn of(ranges: Vec<Range<usize>>, theta: &Tensor<1>) -> Self {
        let mut this = Self { ranges, initial: 0.0 };
        this.initial = this.norm(theta);
        this
    }

    fn norm(&self, theta: &Tensor<1>) -> f64 {
        let square = |range: &Range<usize>| {
            let part = theta.clone().slice(range.clone());
            (part.clone() * part).sum().into_scalar::<f64>()
        };
        self.ranges.iter().map(square).sum::<f64>().sqrt()
    }
}

/// Finds the parameters and their initial norm.
pub(super) fn make<E: From<Error>>(
    settings: &spec::WeightNorm,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    making.of_weights(|theta| {
        let norm = WeightNorm::new(settings, making.lm.as_ref(), theta)?;
        Ok((norm.ranges.clone(), norm))
    })
}

impl Metric for WeightNorm {
    fn score(&self, theta: &Tensor<1>, _context: Context) -> Result<Score, Error> {
        let norm = self.norm(theta);
        Ok(Score {
            value: -norm,
            proxies: vec![("norm".into(), norm), ("norm_change".into(), norm - self.initial)],
        })
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, context: Context) -> Result<(Score, Tensor<1>), Error> {
        let score = self.score(theta, context)?;
        let mut gradient = zeros_like(theta);
        for range in &self.ranges {
            let slope = theta.clone().slice(range.clone()) * (1.0 / score.value);
            gradient = gradient.slice_assign(range.clone(), slope);
        }
        Ok((score, gradient))
    }

    fn with_numbers(&self, _settings: &spec::Metric) -> Arc<dyn Metric> {
        Arc::new(self.clone())
    }
}
