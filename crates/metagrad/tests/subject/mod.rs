//! What the tests of derivatives share: small models in f64, random texts, and differences to compare with.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{CausalLm, Example, architecture, keyed_rng, weights};
use rand::RngExt;

/// A golden model.
pub(crate) struct Subject {
    pub(crate) lm: Arc<dyn CausalLm>,
    /// Its weights `[n]`.
    pub(crate) theta: Tensor<1>,
}

impl Subject {
    /// The model of a name, in f64.
    pub(crate) fn new(model: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(model);
        let lm: Arc<dyn CausalLm> = architecture(&folder).unwrap().into();
        let theta = weights::load::<f64>(&folder, lm.layout()).unwrap();
        Self { lm, theta: Tensor::from_data(theta.as_slice(), (&Device::flex(), DType::F64)) }
    }

    /// Random texts of 3 to 8 tokens.
    pub(crate) fn texts(&self, count: usize, key: u64) -> Vec<Example> {
        let mut rng = keyed_rng([key, 0, 0, 0]);
        let vocab = self.lm.vocab_size() as u32;
        let text = |_| {
            let len = rng.random_range(3..9);
            Example::all_scored((0..len).map(|_| rng.random_range(0..vocab)).collect())
        };
        (0..count).map(text).collect()
    }
}

/// The slope of `f` at 0: the central difference of fourth order.
pub(crate) fn slope(f: impl Fn(f64) -> f64) -> f64 {
    const H: f64 = 1e-3;
    (8.0 * (f(H) - f(-H)) - (f(2.0 * H) - f(-2.0 * H))) / (12.0 * H)
}

/// l2 distance of two vectors over the length of the second.
pub(crate) fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (distance / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}
