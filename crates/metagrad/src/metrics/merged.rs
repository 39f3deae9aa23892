//! Metrics of weights for a target with LoRA adapters: they see the merged weights `W + s A B`, and their gradient goes
//! into A and B by the chain rule.

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Layout};
use dpg_spec as spec;

use super::{Context, Decoded, Making, Metric, Picture, Score};
use crate::Error;

impl<E: From<Error>> Making<'_, E> {
    /// A metric of the model's own weights, made of all of them at their start `[n]`; also the ranges that it looks at.
    ///
    /// # Errors
    /// [`Error::Metric`] if the target has adapters and none of what the metric looks at is adapted.
    pub(super) fn of_weights<M: Metric + 'static>(
        &self,
        make: impl FnOnce(&Tensor<1>) -> Result<(Vec<Range<usize>>, M), E>,
    ) -> Result<Arc<dyn Metric>, E> {
        let layout = self.lm.layout();
        let Some(adapters) = layout.adapters() else { return Ok(Arc::new(make(self.theta)?.1)) };
        let (ranges, metric) = make(&adapters.merged(layout, self.theta))?;
        let looked_at =
            |range: &Range<usize>| ranges.iter().any(|one| one.start < range.end && range.start < one.end);
        if !layout.model().params().iter().any(|param| adapters.adapts(param) && looked_at(&param.range())) {
            let reason = "the target's LoRA adapters leave it as it is; name the weight of a layer in `target.lora.targets`";
            return Err(Error::Metric { field: "parameter", reason: reason.into() }.into());
        }
        Ok(Arc::new(Merged { lm: Arc::clone(self.lm), metric: Arc::new(metric) }))
    }
}

/// A metric of the weights that adapters make.
struct Merged {
    lm: Arc<dyn CausalLm>,
    metric: Arc<dyn Metric>,
}

impl Merged {
    fn layout(&self) -> &Layout {
        self.lm.layout()
    }

    fn weights(&self, theta: &Tensor<1>) -> Tensor<1> {
        let adapters = self.layout().adapters().expect("it is made for adapters");
        adapters.merged(self.layout(), theta)
    }
}

impl Metric for Merged {
    fn score(&self, theta: &Tensor<1>, context: Context) -> Result<Score, Error> {
        self.metric.score(&self.weights(theta), context)
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, context: Context) -> Result<(Score, Tensor<1>), Error> {
        let adapters = self.layout().adapters().expect("it is made for adapters");
        let (score, gradient) = self.metric.score_and_gradient(&self.weights(theta), context)?;
        Ok((score, adapters.gradient(self.layout(), theta, &gradient)))
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric> {
        Arc::new(Self { lm: Arc::clone(&self.lm), metric: self.metric.with_numbers(settings) })
    }

    fn programs(&self) -> Vec<(String, String)> {
        self.metric.programs()
    }

    fn decoded(&self, theta: &Tensor<1>) -> Vec<Decoded> {
        self.metric.decoded(&self.weights(theta))
    }

    fn pictures(&self, theta: &Tensor<1>) -> Vec<Picture> {
        self.metric.pictures(&self.weights(theta))
    }
}
