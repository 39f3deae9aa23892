//! A metric to raise and metrics to keep: `Phi = raise - strength * sum max(0, lost - tolerance)`, lost how far a kept
//! metric fell below what the untrained target has.

use std::sync::Arc;

use burn::tensor::Tensor;
use dpg_spec as spec;

use super::{Decoded, Making, Metric, Picture, Score};
use crate::Error;

/// The metric `guard`.
pub struct Guard {
    raise: Arc<dyn Metric>,
    keep: Vec<Kept>,
    strength: f64,
}

/// A metric not to lose.
#[derive(Clone)]
struct Kept {
    metric: Arc<dyn Metric>,
    /// Its value under the untrained target.
    initial: f64,
    tolerance: f64,
}

/// Makes the metrics and measures the untrained target by those to keep.
pub(super) fn make<E: From<Error>>(settings: &spec::Guard, making: &Making<E>) -> Result<Arc<dyn Metric>, E> {
    let kept = |kept: &spec::Kept| {
        let metric = making.metric(&kept.metric)?;
        let initial = metric.score(making.theta)?.value;
        Ok(Kept { metric, initial, tolerance: kept.tolerance })
    };
    let keep = settings.keep.iter().map(kept).collect::<Result<_, E>>()?;
    Ok(Arc::new(Guard { raise: making.metric(&settings.raise)?, keep, strength: settings.strength }))
}

impl Kept {
    fn lost(&self, score: &Score) -> f64 {
        self.initial - score.value
    }

    fn is_over(&self, score: &Score) -> bool {
        self.lost(score) > self.tolerance
    }
}

impl Guard {
    fn score_of(&self, raise: Score, kept: &[Score]) -> Score {
        let mut proxies = vec![];
        let mut tell = |name: String, score: &Score| {
            proxies.push((name.clone(), score.value));
            proxies.extend(score.proxies.iter().map(|(proxy, value)| (format!("{name}_{proxy}"), *value)));
        };
        tell("raise".into(), &raise);
        for (index, score) in kept.iter().enumerate() {
            tell(format!("keep_{index}"), score);
        }
        let (mut value, mut within) = (raise.value, 0);
        for (index, (kept, score)) in self.keep.iter().zip(kept).enumerate() {
            let lost = kept.lost(score);
            proxies.push((format!("lost_{index}"), lost));
            if kept.is_over(score) {
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
    fn score(&self, theta: &Tensor<1>) -> Result<Score, Error> {
        let kept = self.keep.iter().map(|kept| kept.metric.score(theta)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.score_of(self.raise.score(theta)?, &kept))
    }

    fn score_and_gradient(&self, theta: &Tensor<1>) -> Result<(Score, Tensor<1>), Error> {
        let (raise, mut gradient) = self.raise.score_and_gradient(theta)?;
        let mut scores = vec![];
        for kept in &self.keep {
            let mut score = kept.metric.score(theta)?;
            if kept.is_over(&score) {
                let slope;
                (score, slope) = kept.metric.score_and_gradient(theta)?;
                gradient = gradient + slope * self.strength;
            }
            scores.push(score);
        }
        Ok((self.score_of(raise, &scores), gradient))
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric> {
        let spec::Metric::Guard(settings) = settings else {
            let (raise, keep) = (Arc::clone(&self.raise), self.keep.clone());
            return Arc::new(Self { raise, keep, strength: self.strength });
        };
        let kept = |(kept, settings): (&Kept, &spec::Kept)| Kept {
            metric: kept.metric.with_numbers(&settings.metric),
            initial: kept.initial,
            tolerance: settings.tolerance,
        };
        Arc::new(Self {
            raise: self.raise.with_numbers(&settings.raise),
            keep: self.keep.iter().zip(&settings.keep).map(kept).collect(),
            strength: settings.strength,
        })
    }

    fn decoded(&self, theta: &Tensor<1>) -> Vec<Decoded> {
        let of_part = |(part, metric): (String, &Arc<dyn Metric>)| {
            let named = move |one: Decoded| Decoded { name: format!("{}-{part}", one.name), ..one };
            metric.decoded(theta).into_iter().map(named).collect::<Vec<_>>()
        };
        self.parts().flat_map(of_part).collect()
    }

    fn pictures(&self, theta: &Tensor<1>) -> Vec<Picture> {
        let of_part = |(part, metric): (String, &Arc<dyn Metric>)| {
            let named = move |one: Picture| Picture { name: format!("{}-{part}", one.name), ..one };
            metric.pictures(theta).into_iter().map(named).collect::<Vec<_>>()
        };
        self.parts().flat_map(of_part).collect()
    }
}
