//! The sizes that benchmarks run at.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use dpg_models::{CausalLm, Example, from_config, keyed_rng};
use rand::RngExt;
use serde::Serialize;
use serde_json::json;

/// What a model is built like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Family {
    /// GPT-2, whose MLP is four times as wide.
    Gpt2,
    /// Llama.
    Llama {
        /// Heads of keys and values.
        kv_heads: usize,
        /// Width of the MLP.
        inner: usize,
    },
}

/// Sizes of a model and of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the model is.
    #[serde(flatten)]
    pub family: Family,
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
    /// memory is all vectors; SmolLM2-135M.
    pub const ALL: [Self; 7] = [
        Self::gpt2("smallest", [64, 1, 256], [4, 16]),
        Self::gpt2("tiny", [64, 2, 4096], [64, 32]),
        Self::gpt2("small", [256, 4, 4096], [32, 128]),
        Self::gpt2("medium", [768, 12, 50257], [4, 128]),
        Self::gpt2("large", [768, 12, 50257], [64, 128]),
        Self::gpt2("short", [768, 12, 50257], [1, 17]),
        Self {
            name: "smollm2",
            family: Family::Llama { kv_heads: 3, inner: 1536 },
            hidden: 576,
            layers: 30,
            vocab: 49152,
            batch: 8,
            sequence: 128,
        },
    ];

    /// A GPT-2 of a width, blocks and a vocabulary, on a batch of so many examples of so many tokens.
    pub const fn gpt2(
        name: &'static str,
        [hidden, layers, vocab]: [usize; 3],
        [batch, sequence]: [usize; 2],
    ) -> Self {
        Self { name, family: Family::Gpt2, hidden, layers, vocab, batch, sequence }
    }

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

    /// Steps of the runs that are measured.
    pub fn steps(&self) -> &'static [usize] {
        match self.family {
            Family::Gpt2 => &[1, 8, 16],
            // each takes a minute
            Family::Llama { .. } => &[1, 2],
        }
    }

    /// Rows that are sampled together: many short ones, as in a step of the embedded job, or a batch.
    pub fn sampled_rows(&self) -> usize {
        match self.family {
            Family::Gpt2 => 32_768 / self.sequence,
            Family::Llama { .. } => 4 * self.batch,
        }
    }

    /// The model of this shape, its head tied.
    ///
    /// # Panics
    /// If the sizes make no model.
    pub fn model(&self) -> Box<dyn CausalLm> {
        let positions = self.sequence.max(64);
        let config = match self.family {
            Family::Gpt2 => json!({
                "model_type": "gpt2",
                "vocab_size": self.vocab,
                "n_positions": positions,
                "n_embd": self.hidden,
                "n_layer": self.layers,
                "n_head": self.heads(),
            }),
            Family::Llama { kv_heads, inner } => json!({
                "model_type": "llama",
                "vocab_size": self.vocab,
                "max_position_embeddings": positions,
                "hidden_size": self.hidden,
                "intermediate_size": inner,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads(),
                "num_key_value_heads": kv_heads,
                "rms_norm_eps": 1e-5,
                "tie_word_embeddings": true,
            }),
        };
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
    /// `[rows, inner] x [inner, columns]`. First those of the blocks' linear layers, last the head's.
    pub fn products(&self) -> Vec<(usize, [usize; 3])> {
        let (h, positions) = (self.hidden, self.sequence - 1);
        let tokens = self.batch * positions;
        let attention = self.layers * self.batch * self.heads();
        let width = h / self.heads();
        // queries, keys and values; what goes up in the MLP, and comes down
        let (qkv, up, down) = match self.family {
            Family::Gpt2 => (3 * h, 4 * h, 4 * h),
            Family::Llama { kv_heads, inner } => (h + 2 * kv_heads * width, 2 * inner, inner),
        };
        vec![
            // as many as `LINEAR` says
            (self.layers, [tokens, h, qkv]),
            (self.layers, [tokens, h, h]),
            (self.layers, [tokens, h, up]),
            (self.layers, [tokens, down, h]),
            (attention, [positions, width, positions]),
            (attention, [positions, positions, width]),
            (1, [tokens, h, self.vocab]),
        ]
    }

    /// Floating-point operations of those products.
    pub fn forward_operations(&self) -> f64 {
        operations(&self.products())
    }

    /// Forward passes over a batch that a walk back from traces amounts to: linear layers once, the head twice, attention
    /// not at all.
    pub fn traced_passes(&self) -> f64 {
        let products = self.products();
        let head = &products[products.len() - 1..];
        (operations(&products[..LINEAR]) + 2.0 * operations(head)) / operations(&products)
    }
}

/// Products of a block's linear layers.
const LINEAR: usize = 4;

fn operations(products: &[(usize, [usize; 3])]) -> f64 {
    products.iter().map(|(count, [m, k, n])| 2.0 * (count * m * k * n) as f64).sum()
}
