//! How near weights W come to a checkpoint's C: `Phi = -||W - C||^2`, or `Phi = cos(W - W0, C - B)` with W0 the
//! untrained weights and B where the task vector starts.

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;
use dpg_models::zeros_like;
use dpg_spec::{self as spec, DistanceMeasure};

use super::{Context, Making, Metric, Score, ranges};
use crate::Error;

/// The metric `distance`.
#[derive(Clone)]
pub struct Distance {
    /// The parameters in the flat vector.
    ranges: Vec<Range<usize>>,
    measure: Measure,
}

/// All vectors are those of the parameters, one after the other.
#[expect(clippy::large_enum_variant, reason = "a metric has one of them")]
#[derive(Clone)]
enum Measure {
    SquaredDistance { checkpoint: Tensor<1>, initial: f64 },
    Cosine { initial: Tensor<1>, direction: Tensor<1> },
}

/// Reads the checkpoints.
pub(super) fn make<E: From<Error>>(
    settings: &spec::Distance,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let ranges = match &settings.parameter {
        Some(parameters) => ranges(making.lm.as_ref(), parameters)?,
        None => std::iter::once(0..making.lm.layout().model().len()).collect(),
    };
    let checkpoint = |folder: &str, field: &'static str| {
        let (lm, theta) = making.sources.model(folder)?;
        if lm.layout().model() != making.lm.layout().model() {
            let reason = format!(
                "`{folder}` has other parameters than the target; name a checkpoint of the same model"
            );
            return Err(E::from(Error::Metric { field, reason }));
        }
        Ok(pick(&ranges, &theta))
    };
    let target = checkpoint(&settings.checkpoint, "checkpoint")?;
    making.of_weights(|theta| {
    let initial = pick(&ranges, theta);
    let measure = match settings.measure {
        DistanceMeasure::SquaredDistance => {
            let distance = norm(&(initial - target.clone()));
            Measure::SquaredDistance { checkpoint: target, initial: distance }
        }
        DistanceMeasure::Cosine => {
            let base = settings.base.as_ref().map(|base| checkpoint(base, "base")).transpose()?;
            let direction = target - base.unwrap_or_else(|| initial.clone());
            let length = norm(&direction);
            if length == 0.0 {
                let reason = "it has the weights that the task vector starts from, so that there is no way between them";
                return Err(Error::Metric { field: "checkpoint", reason: reason.into() }.into());
            }
            Measure::Cosine { initial, direction: direction / length }
        }
    };
    Ok((ranges.clone(), Distance { ranges: ranges.clone(), measure }))
    })
}

fn pick(ranges: &[Range<usize>], theta: &Tensor<1>) -> Tensor<1> {
    Tensor::cat(ranges.iter().map(|range| theta.clone().slice(range.clone())).collect(), 0)
}

fn norm(vector: &Tensor<1>) -> f64 {
    (vector.clone() * vector.clone()).sum().into_scalar::<f64>().sqrt()
}

impl Distance {
    /// The score and the gradient in the parameters.
    fn measure(&self, theta: &Tensor<1>) -> (Score, Tensor<1>) {
        let weights = pick(&self.ranges, theta);
        let proxy = |name: &str, value: f64| (name.to_owned(), value);
        match &self.measure {
            Measure::SquaredDistance { checkpoint, initial } => {
                let left = weights - checkpoint.clone();
                let distance = norm(&left);
                let proxies = vec![proxy("distance", distance), proxy("distance_change", distance - initial)];
                (Score { value: -distance * distance, proxies }, left * -2.0)
            }
            Measure::Cosine { initial, direction } => {
                let change = weights - initial.clone();
                let length = norm(&change);
                let cosine = (change.clone() * direction.clone()).sum().into_scalar::<f64>() / length;
                // before any change there is none, and no way to it either
                let (cosine, gradient) = if length == 0.0 {
                    (0.0, change)
                } else {
                    (cosine, (direction.clone() - change * (cosine / length)) / length)
                };
                let proxies = vec![proxy("cosine", cosine), proxy("change", length)];
                (Score { value: cosine, proxies }, gradient)
            }
        }
    }
}

impl Metric for Distance {
    fn score(&self, theta: &Tensor<1>, _context: Context) -> Result<Score, Error> {
        Ok(self.measure(theta).0)
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, _context: Context) -> Result<(Score, Tensor<1>), Error> {
        let (score, slope) = self.measure(theta);
        let (mut gradient, mut first) = (zeros_like(theta), 0);
        for range in &self.ranges {
            let part = slope.clone().narrow(0, first, range.len());
            gradient = gradient.slice_assign(range.clone(), part);
            first += range.len();
        }
        Ok((score, gradient))
    }

    fn with_numbers(&self, _settings: &spec::Metric) -> Arc<dyn Metric> {
        Arc::new(self.clone())
    }
}
