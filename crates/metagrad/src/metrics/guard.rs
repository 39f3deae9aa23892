//! A metric to raise and metrics to keep: `Phi = raise - strength * sum max(0, lost - tolerance)`, lost how far a kept
//! metric fell below what the untrained target has.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;
use dpg_spec as spec;

use super::{Context, Decoded, Making, Metric, Picture, Score};
use crate::Error;

/// The metric `guard`.
pub struct Guard {
    raise: Arc<dyn Metric>,
    keep: Vec<Kept>,
    strength: f64,
    /// The untrained weights `[n]`.
    untrained: Tensor<1>,
}

/// A metric not to lose.
#[derive(Clone)]
struct Kept {
    metric: Arc<dyn Metric>,
    /// Its value under the untrained target, once it is measured.
    initial: Arc<OnceLock<f64>>,
    tolerance: f64,
}

/// Makes the metrics.
pub(super) fn make<E: From<Error>>(settings: &spec::Guard, making: &Making<E>) -> Result<Arc<dyn Metric>, E> {
    let kept = |kept: &spec::Kept| {
        let metric = making.metric(&kept.metric)?;
        Ok(Kept { metric, initial: Arc::default(), tolerance: kept.tolerance })
    };
    let keep = settings.keep.iter().map(kept).collect::<Result<_, E>>()?;
    let (raise, untrained) = (making.metric(&settings.raise)?, making.theta.clone());
    Ok(Arc::new(Guard { raise, keep, strength: settings.strength, untrained }))
}

impl Kept {
    /// How far it fell below its value under the untrained weights `[n]`.
    fn lost(&self, score: &Score, untrained: &Tensor<1>, context: Context) -> Result<f64, Error> {
        let initial = if let Some(initial) = self.initial.get() {
            *initial
        } else {
            let initial = self.metric.score(untrained, context)?.value;
            *self.initial.get_or_init(|| initial)
        };
        Ok(initial - score.value)
    }
}

impl Guard {
    /// The score that makes of the metric to raise and of those to keep, each with what it lost.
    fn score_of(&self, raise: Score, kept: &[(Score, f64)]) -> Score {
        let mut proxies = vec![];
        let mut tell = |name: String, score: &Score| {
            proxies.push((name.clone(), score.value));
            proxies.extend(score.proxies.iter().map(|(proxy, value)| (format!("{name}_{proxy}"), *value)));
        };
        tell("raise".into(), &raise);
        for (index, (score, _)) in kept.iter().enumerate() {
            tell(format!("keep_{index}"), score);
        }
        let (mut value, mut within) = (raise.value, 0);
        for (index, (kept, &(_, lost))) in self.keep.iter().zip(kept).enumerate() {
            proxies.push((format!("lost_{index}"), lost));
            if lost > kept.tolerance {
                value -= self.strength * (lost - kept.tolerance);
            } else {
                within += 1;
            }
        }
        proxies.push(("kept".into(), f64::from(within) / kept.len() as f64));
        Score { value, proxies }
    }

    fn parts(&self) -> impl Iterator<Item = (String, &Arc<dyn Metric>)> {
        let kept = self.keep.iter().enumerate();
        let kept = kept.map(|(index, kept)| (format!("keep-{index}"), &kept.metric));
        std::iter::once(("raise".to_owned(), &self.raise)).chain(kept)
    }
}

impl Metric for Guard {
    fn score(&self, theta: &Tensor<1>, context: Context) -> Result<Score, Error> {
        let measured = |kept: &Kept| {
            let score = kept.metric.score(theta, context)?;
            let lost = kept.lost(&score, &self.untrained, context)?;
            Ok::<_, Error>((score, lost))
        };
        let kept = self.keep.iter().map(measured).collect::<Result<Vec<_>, _>>()?;
        Ok(self.score_of(self.raise.score(theta, context)?, &kept))
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, context: Context) -> Result<(Score, Tensor<1>), Error> {
        let (raise, mut gradient) = self.raise.score_and_gradient(theta, context)?;
        let mut scores = vec![];
        for kept in &self.keep {
            let mut score = kept.metric.score(theta, context)?;
            let lost = kept.lost(&score, &self.untrained, context)?;
            if lost > kept.tolerance {
                let slope;
                (score, slope) = kept.metric.score_and_gradient(theta, context)?;
                gradient = gradient + slope * self.strength;
            }
            scores.push((score, lost));
        }
        Ok((self.score_of(raise, &scores), gradient))
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric> {
        let spec::Metric::Guard(settings) = settings else {
            let (raise, keep, untrained) =
                (Arc::clone(&self.raise), self.keep.clone(), self.untrained.clone());
            return Arc::new(Self { raise, keep, strength: self.strength, untrained });
        };
        let kept = |(kept, settings): (&Kept, &spec::Kept)| Kept {
            metric: kept.metric.with_numbers(&settings.metric),
            initial: Arc::clone(&kept.initial),
            tolerance: settings.tolerance,
        };
        Arc::new(Self {
            raise: self.raise.with_numbers(&settings.raise),
            keep: self.keep.iter().zip(&settings.keep).map(kept).collect(),
            strength: settings.strength,
            untrained: self.untrained.clone(),
        })
    }

    fn decoded(&self, theta: &Tensor<1>) -> Vec<Decoded> {
        let of_part = |(part, metric): (String, &Arc<dyn Metric>)| {
            let named = move |one: Decoded| Decoded { name: format!("{}-{part}", one.name), ..one };
            metric.decoded(theta).into_iter().map(named).collect::<Vec<_>>()
        };
        self.parts().flat_map(of_part).collect()
    }

    fn programs(&self) -> Vec<(String, String)> {
        self.parts().flat_map(|(_, metric)| metric.programs()).collect()
    }

    fn pictures(&self, theta: &Tensor<1>) -> Vec<Picture> {
        let of_part = |(part, metric): (String, &Arc<dyn Metric>)| {
            let named = move |one: Picture| Picture { name: format!("{}-{part}", one.name), ..one };
            metric.pictures(theta).into_iter().map(named).collect::<Vec<_>>()
        };
        self.parts().flat_map(of_part).collect()
    }
}
