//! Minus the loss on held-out text: the mean over examples of the mean cross-entropy of an
//! example's scored tokens.

use std::sync::Arc;

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Example, Params, check_tokens};
use dpg_spec as spec;

use super::{Making, Metric, Score};
use crate::{Error, loss::example_losses};

/// The metric `held_out_loss`.
#[derive(Clone)]
pub struct HeldOutLoss {
    lm: Arc<dyn CausalLm>,
    examples: Arc<[Example]>,
    microbatch: usize,
}

impl HeldOutLoss {
    /// The loss of `lm` on `examples`.
    pub fn new(lm: Arc<dyn CausalLm>, examples: Vec<Example>, microbatch: usize) -> Result<Self, Error> {
        if examples.is_empty() {
            let reason = "there are no held-out examples; give a file with at least one row".into();
            return Err(Error::Metric { field: "data", reason });
        }
        if let Some(index) = examples.iter().position(|example| example.scored_len() == 0) {
            let reason = format!(
                "held-out example {index} has no scored token: it needs at least two tokens, or a completion"
            );
            return Err(Error::Metric { field: "data", reason });
        }
        for (index, example) in examples.iter().enumerate() {
            check_tokens(lm.as_ref(), &example.tokens, || format!("held-out example {index}"))?;
        }
        Ok(Self { lm, examples: examples.into(), microbatch })
    }

    fn chunks(&self) -> impl Iterator<Item = Vec<&Example>> {
        self.examples.chunks(self.microbatch).map(|chunk| chunk.iter().collect())
    }

    fn score_of(&self, loss_sum: f64) -> Score {
        let loss = loss_sum / self.examples.len() as f64;
        Score { value: -loss, proxies: vec![("loss".into(), loss), ("perplexity".into(), loss.exp())] }
    }
}

/// Reads the examples.
pub(super) fn make<E: From<Error>>(
    settings: &spec::HeldOut,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let examples = (making.held_out)(settings)?;
    Ok(Arc::new(HeldOutLoss::new(Arc::clone(making.lm), examples, making.microbatch)?))
}

impl Metric for HeldOutLoss {
    fn score(&self, theta: &Tensor<1>) -> Result<Score, Error> {
        let params = Params::new(self.lm.layout(), theta);
        let losses = self.chunks().map(|chunk| {
            example_losses(self.lm.as_ref(), &params, &chunk)
                .primal
                .to_data_as::<f64>()
                .iter::<f64>()
                .sum::<f64>()
        });
        Ok(self.score_of(losses.sum()))
    }

    fn score_and_gradient(&self, theta: &Tensor<1>) -> Result<(Score, Tensor<1>), Error> {
        let mut total = 0.0;
        let mut gradient: Option<Tensor<1>> = None;
        for chunk in self.chunks() {
            let params = Params::tracked(self.lm.layout(), theta);
            let losses = example_losses(self.lm.as_ref(), &params, &chunk).primal;
            total += losses.clone().inner().to_data_as::<f64>().iter::<f64>().sum::<f64>();
            let phi = losses.sum() * (-1.0 / self.examples.len() as f64);
            let part = params.gradient(phi.backward());
            gradient = Some(match gradient {
                Some(sum) => sum + part,
                None => part,
            });
        }
        Ok((self.score_of(total), gradient.unwrap_or_else(|| theta.zeros_like())))
    }

    fn with_numbers(&self, _settings: &spec::Metric) -> Arc<dyn Metric> {
        Arc::new(self.clone())
    }
}
