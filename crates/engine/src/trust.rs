//! Whether the rewards of a recipe can be trusted: what is known to put them off, found cheaply.

use burn::tensor::{DType, Tensor};
use dpg_dataset::Example;
use dpg_metagrad::{Score, Sft};
use dpg_models::{MatmulPrecision, available_memory};
use dpg_spec::{LrSchedule, Optimizer, Sgd};

use crate::{Draw, Error, Problem, Scorer, Stop, Target};

/// Rewards further off than this are not worth much.
pub(crate) const TOLERABLE: f64 = 0.05;

/// Examples that are scored twice to see what single precision costs.
const SAMPLE: usize = 8;

/// How far the gradient is beyond where the optimizer's step is smooth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Saturation {
    /// Root mean square of the first step's gradient, each weight counting by |dPhi/dtheta|.
    pub(crate) gradient: f64,
    /// The same over `sqrt(eps_root) + eps`, for Adam. Its first step g / (sqrt(g^2 + eps_root) + eps) has a
    /// derivative in g that vanishes where this is large.
    pub(crate) ratio: Option<f64>,
}

impl Saturation {
    /// What it means and what to do about it, where it is too large.
    pub(crate) fn advice(self) -> Option<String> {
        const SATURATED: f64 = 10.0;
        let ratio = self.ratio.filter(|&ratio| ratio > SATURATED)?;
        Some(format!(
            "the optimizer's step is saturated: the gradient is {ratio:.0} times sqrt(eps_root) + eps, where rewards \
             all but vanish and say little of what a whole example does; raise eps_root to about {:.0e}",
            self.gradient.powi(2)
        ))
    }
}

impl Scorer<'_> {
    /// Measures saturation on the first batch of the examples; also the metric of the target as it is.
    pub(crate) fn saturation(&self, examples: &[Example]) -> Result<(Saturation, Score), Error> {
        let (untrained, slope) = self.metric.score_and_gradient(&self.target.model.theta, self.context())?;
        let weights = slope.abs();
        // a metric of how far the target has come may be flat where it starts
        let flat = weights.clone().sum().into_scalar::<f64>() == 0.0;
        let weights = if flat { weights.ones_like() } else { weights };
        let gradient = self.first_gradient(examples)?;
        let gradient = ((gradient.clone() * gradient * weights.clone()).sum() / weights.sum())
            .into_scalar::<f64>()
            .sqrt();
        let bound = self.target.sft.optimizer.settings().saturates_at();
        let ratio = bound.map(|bound| gradient / bound).filter(|ratio| ratio.is_finite());
        Ok((Saturation { gradient, ratio }, untrained))
    }

    /// Gradient of the first batch's loss as the optimizer takes it, read off a step of plain descent.
    fn first_gradient(&self, examples: &[Example]) -> Result<Tensor<1>, Error> {
        let (encoded, _) = self.trainable(examples)?;
        let mut batches = self.target.batches(&encoded, Draw::FIRST);
        batches.truncate(1);
        let weights = vec![1.0; encoded.len()];
        let recipe = dpg_spec::Sft {
            optimizer: Optimizer::Sgd(Sgd { learning_rate: 1.0, weight_decay: 0.0 }),
            lr_schedule: LrSchedule::Constant,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            ..self.target.sft.clone()
        };
        let sft = Sft { recipe: &recipe, ..self.target.sft(&encoded, &weights, &batches, self.stop) };
        Ok(self.target.model.theta.clone() - sft.train()?)
    }
}

/// What is known of how far rewards can be trusted.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    /// Relative l2 distance of rewards in single precision from the same in double, on the first examples; `None` for
    /// rewards in double precision, and where a model in it would take a large part of the memory.
    pub rounding: Option<f64>,
    /// What puts the rewards off, each with what to do about it.
    pub warnings: Vec<String>,
}

impl Problem {
    /// How far the rewards of these examples can be trusted: whether the optimizer's step is saturated, and what single
    /// precision costs.
    pub fn trust(&self, examples: &[Example], stop: Stop) -> Result<Trust, Error> {
        // nothing of it is as large as what was scored
        let scratch = std::env::temp_dir();
        let saturated = self.scorer(&scratch, stop).saturation(examples)?.0.advice();
        let single = self.target.model.theta.dtype() == DType::F32;
        let rounding = if single { self.rounding(examples, stop)? } else { None };
        Ok(Trust {
            rounding,
            warnings: saturated.into_iter().chain(rounding.and_then(rounding_advice)).collect(),
        })
    }

    /// What single precision does to the rewards of the first examples, if that is much; asked where there is the
    /// memory for it.
    pub fn rounded(&self, examples: &[Example], stop: Stop) -> Result<Option<String>, Error> {
        Ok(self.rounding(examples, stop)?.and_then(rounding_advice))
    }

    fn rounding(&self, examples: &[Example], stop: Stop) -> Result<Option<f64>, Error> {
        if !fits_twice(&self.target) {
            return Ok(None);
        }
        let places = self.scorer(&std::env::temp_dir(), stop).trainable(examples)?.1;
        let few: Vec<_> = places.iter().take(SAMPLE).map(|&place| examples[place].clone()).collect();
        let [error] = self.reward_errors(&few, [MatmulPrecision::F32], stop)?;
        Ok(Some(error))
    }
}

/// What an error of single precision means, where it is too large.
fn rounding_advice(error: f64) -> Option<String> {
    (error > TOLERABLE).then(|| {
        let off =
            if error.is_finite() { format!("{:.0}% off from", 100.0 * error) } else { "unlike".to_owned() };
        format!(
            "rewards in single precision are {off} those in double on the first examples; score with `--dtype f64`, or \
             raise eps_root"
        )
    })
}

/// Whether the walk of a few examples in double precision is small beside this machine's memory.
fn fits_twice(target: &Target) -> bool {
    // gradients, and what a walk of one step takes
    let vectors = SAMPLE.div_ceil(target.sft.batch_size) as u64 * target.sft.epochs as u64 + 6;
    // frozen weights are read a second time
    let frozen = target.model.lm.layout().adapters().map_or(0, |adapters| adapters.frozen().bytes());
    let bytes = target.model.theta.dims()[0] as u64 * 8 * vectors + frozen;
    available_memory().is_none_or(|available| bytes < available / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_where_a_step_is_saturated() {
        let sound = Saturation { gradient: 1e-3, ratio: Some(1.0) };
        assert_eq!(sound.advice(), None);
        assert_eq!(Saturation { ratio: None, ..sound }.advice(), None);
        let advice = Saturation { ratio: Some(1e5), ..sound }.advice().unwrap();
        assert!(
            advice.contains("100000 times") && advice.contains("raise eps_root to about 1e-6"),
            "{advice}"
        );
    }

    #[test]
    fn rounding_is_told_where_it_matters() {
        assert_eq!(rounding_advice(1e-3), None);
        assert!(rounding_advice(0.72).unwrap().contains("72% off"));
        assert!(rounding_advice(f64::INFINITY).unwrap().contains("unlike"));
    }
}
