//! The sizes that benchmarks run at.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{CausalLm, Example, from_config, keyed_rng};
use rand::RngExt;
use serde::Serialize;
use serde_json::json;

/// Sizes of a model and of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Its name on the command line.
    pub name: &'static str,
    /// Width of the model.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Examples of a batch.
    pub batch: usize,
    /// Tokens of an example.
    pub sequence: usize,
}

impl Shape {
    /// One that shows only that everything runs; about the embedded models; a model that fills a few
    /// cores; GPT-2; GPT-2 on the batch that published runs on a GPU have; GPT-2 on next to nothing, where
    /// memory is all vectors.
    pub const ALL: [Self; 6] = [
        Self { name: "smallest", hidden: 64, layers: 1, vocab: 256, batch: 4, sequence: 16 },
        Self { name: "tiny", hidden: 64, layers: 2, vocab: 4096, batch: 64, sequence: 32 },
        Self { name: "small", hidden: 256, layers: 4, vocab: 4096, batch: 32, sequence: 128 },
        Self { name: "medium", hidden: 768, layers: 12, vocab: 50257, batch: 4, sequence: 128 },
        Self { name: "large", hidden: 768, layers: 12, vocab: 50257, batch: 64, sequence: 128 },
        Self { name: "short", hidden: 768, layers: 12, vocab: 50257, batch: 1, sequence: 17 },
    ];

    /// The shape of a name, or an error that lists the names.
    pub fn parse(name: &str) -> Result<Self, String> {
        let names: Vec<&str> = Self::ALL.iter().map(|shape| shape.name).collect();
        let found = Self::ALL.into_iter().find(|shape| shape.name == name);
        found.ok_or_else(|| format!("no shape is called `{name}`; there are: {}", names.join(", ")))
    }

    /// Attention heads, of 64 each.
    pub fn heads(&self) -> usize {
        (self.hidden / 64).max(1)
    }

    /// GPT-2 of this shape, its head tied.
    ///
    /// # Panics
    /// If the sizes make no model.
    pub fn model(&self) -> Box<dyn CausalLm> {
        let config = json!({
            "model_type": "gpt2",
            "vocab_size": self.vocab,
            "n_positions": self.sequence.max(64),
            "n_embd": self.hidden,
            "n_layer": self.layers,
            "n_head": self.heads(),
        });
        from_config(config, Path::new("benchmark")).expect("the shape makes a model")
    }

    /// Random weights of standard deviation 0.02, norms at 1, `[n]`.
    pub fn weights(&self, lm: &dyn CausalLm, device: &Device) -> Tensor<1> {
        let mut rng = keyed_rng([1, 0, 0, 0]);
        let mut theta: Vec<f32> = Vec::with_capacity(lm.layout().len());
        // uniform, of the variance of the usual normal initialisation
        let half_width = 0.02 * 3f32.sqrt();
        for param in lm.layout().params() {
            let norm = param.shape.len() == 1 && param.name.ends_with("weight");
            let mut value = || if norm { 1.0 } else { rng.random_range(-half_width..half_width) };
            theta.extend((0..param.len()).map(|_| value()));
        }
        Tensor::from_data(theta.as_slice(), (device, DType::F32))
    }

    /// `count` random texts of full length.
    pub fn examples(&self, count: usize) -> Vec<Example> {
        let mut rng = keyed_rng([2, 0, 0, 0]);
        let text = |_| (0..self.sequence).map(|_| rng.random_range(0..self.vocab as u32)).collect();
        (0..count).map(text).map(Example::all_scored).collect()
    }

    /// The matrix products of one forward pass over a batch: how many, and of which sizes
    /// `[rows, inner] x [inner, columns]`.
    pub fn products(&self) -> Vec<(usize, [usize; 3])> {
        let (h, positions) = (self.hidden, self.sequence - 1);
        let tokens = self.batch * positions;
        let attention = self.layers * self.batch * self.heads();
        vec![
            (self.layers, [tokens, h, 3 * h]),
            (self.layers, [tokens, h, h]),
            (self.layers, [tokens, h, 4 * h]),
            (self.layers, [tokens, 4 * h, h]),
            (attention, [positions, h / self.heads(), positions]),
            (attention, [positions, positions, h / self.heads()]),
            (1, [tokens, h, self.vocab]),
        ]
    }

    /// Floating-point operations of those products.
    pub fn forward_operations(&self) -> f64 {
        let operations = |(count, [m, k, n]): (usize, [usize; 3])| 2.0 * (count * m * k * n) as f64;
        self.products().into_iter().map(operations).sum()
    }
}
