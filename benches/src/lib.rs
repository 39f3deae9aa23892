//! What the benchmarks run on: a GPT-2 of any size with random weights, and random texts.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{CausalLm, Example, from_config, keyed_rng};
use rand::RngExt;
use serde_json::json;

/// Sizes of a benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
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
    /// GPT-2 with heads of 64.
    ///
    /// # Panics
    /// If the sizes make no model.
    pub fn model(&self) -> Box<dyn CausalLm> {
        let config = json!({
            "model_type": "gpt2",
            "vocab_size": self.vocab,
            "n_positions": self.sequence,
            "n_embd": self.hidden,
            "n_layer": self.layers,
            "n_head": (self.hidden / 64).max(1),
        });
        from_config(config, Path::new("benchmark")).expect("the shape makes a model")
    }

    /// Random weights of standard deviation 0.02, norms at 1, `[n]`.
    pub fn weights(&self, lm: &dyn CausalLm, device: &Device) -> Tensor<1> {
        let mut rng = keyed_rng([1, 0, 0, 0]);
        let mut theta: Vec<f32> = Vec::with_capacity(lm.layout().len());
        for param in lm.layout().params() {
            let norm = param.shape.len() == 1 && param.name.ends_with("weight");
            // uniform, of the same variance as a normal initialisation
            let half_width = 0.02 * 3f32.sqrt();
            theta.extend(
                (0..param.len()).map(|_| if norm { 1.0 } else { rng.random_range(-half_width..half_width) }),
            );
        }
        Tensor::from_data(theta.as_slice(), (device, DType::F32))
    }

    /// `count` random texts of full length.
    pub fn examples(&self, count: usize) -> Vec<Example> {
        let mut rng = keyed_rng([2, 0, 0, 0]);
        let text = |_| (0..self.sequence).map(|_| rng.random_range(0..self.vocab as u32)).collect();
        (0..count).map(text).map(Example::all_scored).collect()
    }

    /// Floating-point operations of one forward pass over a batch, matrix products alone.
    pub fn forward_operations(&self) -> f64 {
        let [hidden, layers, vocab] = [self.hidden, self.layers, self.vocab].map(|size| size as f64);
        let tokens = (self.batch * (self.sequence - 1)) as f64;
        let weights = layers * 12.0 * hidden * hidden + vocab * hidden;
        let attention = layers * 2.0 * hidden * self.sequence as f64;
        2.0 * tokens * (weights + attention)
    }
}
