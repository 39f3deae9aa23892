//! A weighted sum of metrics.

use std::sync::Arc;

use burn::tensor::Tensor;
use dpg_models::zeros_like;
use dpg_spec as spec;

use super::{Context, Decoded, Making, Metric, Picture, Score};
use crate::Error;

/// The metric `sum`.
pub struct Sum {
    terms: Vec<(f64, Arc<dyn Metric>)>,
}

impl Sum {
    /// Weights and metrics.
    pub fn new(terms: Vec<(f64, Arc<dyn Metric>)>) -> Self {
        Self { terms }
    }
}

impl Score {
    fn zero() -> Self {
        Self { value: 0.0, proxies: vec![] }
    }

    /// Adds a term; its proxies keep their meaning and get the term's number.
    fn add(&mut self, index: usize, weight: f64, term: Self) {
        self.value += weight * term.value;
        self.proxies.push((format!("term_{index}"), term.value));
        self.proxies
            .extend(term.proxies.into_iter().map(|(name, value)| (format!("term_{index}_{name}"), value)));
    }
}

/// Makes the terms.
pub(super) fn make<E: From<Error>>(settings: &spec::Sum, making: &Making<E>) -> Result<Arc<dyn Metric>, E> {
    let term = |term: &spec::SumTerm| Ok((term.weight, making.metric(&term.metric)?));
    Ok(Arc::new(Sum::new(settings.terms.iter().map(term).collect::<Result<_, E>>()?)))
}

impl Metric for Sum {
    fn score(&self, theta: &Tensor<1>, context: Context) -> Result<Score, Error> {
        let mut sum = Score::zero();
        for (index, (weight, metric)) in self.terms.iter().enumerate() {
            sum.add(index, *weight, metric.score(theta, context)?);
        }
        Ok(sum)
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, context: Context) -> Result<(Score, Tensor<1>), Error> {
        let mut sum = Score::zero();
        let mut gradient = zeros_like(theta);
        for (index, (weight, metric)) in self.terms.iter().enumerate() {
            let (score, slope) = metric.score_and_gradient(theta, context)?;
            sum.add(index, *weight, score);
            gradient = gradient + slope * *weight;
        }
        Ok((sum, gradient))
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric> {
        let spec::Metric::Sum(settings) = settings else { return Arc::new(Self::new(self.terms.clone())) };
        let terms = self.terms.iter().zip(&settings.terms);
        let term = |((_, metric), term): (&(f64, Arc<dyn Metric>), &spec::SumTerm)| {
            (term.weight, metric.with_numbers(&term.metric))
        };
        Arc::new(Self::new(terms.map(term).collect()))
    }

    fn decoded(&self, theta: &Tensor<1>) -> Vec<Decoded> {
        let of_term = |(number, (_, metric)): (usize, &(f64, Arc<dyn Metric>))| {
            let decoded = metric.decoded(theta).into_iter();
            decoded.map(move |one| Decoded { name: format!("{}-{number}", one.name), ..one })
        };
        self.terms.iter().enumerate().flat_map(of_term).collect()
    }

    fn programs(&self) -> Vec<(String, String)> {
        self.terms.iter().flat_map(|(_, metric)| metric.programs()).collect()
    }

    fn pictures(&self, theta: &Tensor<1>) -> Vec<Picture> {
        // two terms may have pictures of one name
        let of_term = |(number, (_, metric)): (usize, &(f64, Arc<dyn Metric>))| {
            let pictures = metric.pictures(theta).into_iter();
            pictures.map(move |picture| Picture { name: format!("{}-{number}", picture.name), ..picture })
        };
        self.terms.iter().enumerate().flat_map(of_term).collect()
    }
}
