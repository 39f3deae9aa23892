//! What the tests of derivatives share: small models in f64, random texts, and differences to compare with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use dpg_metagrad::{
    Context, Error,
    metrics::{Question, Sources},
};
use dpg_models::{CausalLm, Example, architecture, keyed_rng, weights};
use dpg_spec as spec;
use rand::RngExt;

/// A golden model.
pub(crate) struct Subject {
    pub(crate) lm: Arc<dyn CausalLm>,
    pub(crate) folder: PathBuf,
    /// Its weights `[n]`.
    pub(crate) theta: Tensor<1>,
}

impl Subject {
    /// The model of a name, in f64.
    pub(crate) fn new(model: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(model);
        let lm: Arc<dyn CausalLm> = architecture(&folder).unwrap().into();
        let theta = weights::load::<f64>(&folder, lm.layout()).unwrap();
        Self { lm, folder, theta: Tensor::from_data(theta.as_slice(), (&Device::flex(), DType::F64)) }
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

/// What metrics name, at random: of a path the text alone counts.
impl Sources<Error> for Subject {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn held_out(&self, held_out: &spec::HeldOut) -> Result<Vec<Example>, Error> {
        let answer = held_out.data.completion.as_deref();
        Ok(self.texts(5, if answer == Some("rejected") { 8 } else { 7 }))
    }

    fn completion(&self, prompt: &str, completion: &str) -> Result<Example, Error> {
        let id = |byte: u8| u32::from(byte) % self.lm.vocab_size() as u32;
        let tokens: Vec<u32> = prompt.bytes().chain(completion.bytes()).map(id).collect();
        let scored = (0..tokens.len()).map(|token| token >= prompt.len().max(1)).collect();
        Ok(Example { tokens, scored })
    }

    fn questions(&self, _: &spec::Choice) -> Result<Vec<Question>, Error> {
        let question = |(right, count): (usize, usize)| Question {
            options: self.texts(count, 20 + right as u64),
            characters: (2..2 + count).collect(),
            right,
        };
        Ok([(0, 2), (1, 3), (2, 4)].map(question).into())
    }

    /// A model some way from this one.
    fn model(&self, _: &str) -> Result<(Arc<dyn CausalLm>, Tensor<1>), Error> {
        Ok((Arc::clone(&self.lm), self.theta.clone() + random(self.lm.layout().len(), 30) * 0.1))
    }

    fn vector(&self, _: &spec::VectorFile) -> Result<Vec<f64>, Error> {
        let width = dpg_models::width(self.lm.as_ref());
        Ok(random(width, 31).to_data().iter().collect())
    }
}

/// What a metric has while it measures.
pub(crate) fn context() -> Context<'static> {
    Context { scratch: Path::new("/tmp"), stop: &|| false }
}

/// Numbers between -1 and 1, `[len]`.
pub(crate) fn random(len: usize, key: u64) -> Tensor<1> {
    let mut rng = keyed_rng([key, 1, 0, 0]);
    let values: Vec<f64> = (0..len).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(values.as_slice(), (&Device::flex(), DType::F64))
}

/// The slope of each component of `f` at 0: the central difference of fourth order.
pub(crate) fn slopes(f: impl Fn(f64) -> Vec<f64>) -> Vec<f64> {
    const H: f64 = 1e-3;
    let [up, down, twice_up, twice_down] = [H, -H, 2.0 * H, -2.0 * H].map(f);
    let of = |i: usize| (8.0 * (up[i] - down[i]) - (twice_up[i] - twice_down[i])) / (12.0 * H);
    (0..up.len()).map(of).collect()
}

/// l2 distance of two vectors over the length of the second.
pub(crate) fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (distance / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}
