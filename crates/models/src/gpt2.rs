//! GPT-2 (Radford et al., 2019) as Hugging Face `GPT2LMHeadModel` stores it.
//!
//! Learned positions, pre-norm blocks, GELU; linear weights are stored `[in, out]`. Dropout is off. Its
//! embedding has no padding row, whatever `pad_token_id` says.

use std::{path::Path, sync::Arc};

use burn::tensor::Tensor;
use serde_json::Value;

use crate::{
    Cache, CausalLm, Dual, Error, Head, Layout, MatmulPrecision, Params, Tokens,
    config::Keys,
    context::Context,
    layers::{Heads, Norm, embedding, linear, lookup, lookup_along, packed_attention},
};

/// The keys of config.json that change the computation.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the keys of a Hugging Face config")]
pub(crate) struct Config {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: String,
    layer_norm_epsilon: f64,
    tie_word_embeddings: bool,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
    add_cross_attention: bool,
}

impl Config {
    /// Absent keys have the defaults of `GPT2Config`.
    pub(crate) fn read(keys: &Keys) -> Result<Self, Error> {
        Ok(Self {
            vocab_size: keys.get("vocab_size", 50_257)?,
            n_positions: keys.get("n_positions", 1024)?,
            n_embd: keys.get("n_embd", 768)?,
            n_layer: keys.get("n_layer", 12)?,
            n_head: keys.get("n_head", 12)?,
            n_inner: keys.get("n_inner", Value::Null)?,
            activation_function: keys.get("activation_function", "gelu_new")?,
            layer_norm_epsilon: keys.get("layer_norm_epsilon", 1e-5)?,
            tie_word_embeddings: keys.truthy("tie_word_embeddings", true),
            scale_attn_weights: keys.truthy("scale_attn_weights", true),
            scale_attn_by_inverse_layer_idx: keys.truthy("scale_attn_by_inverse_layer_idx", false),
            add_cross_attention: keys.truthy("add_cross_attention", false),
        })
    }
}

/// A GPT-2 of given sizes.
#[derive(Debug)]
pub struct Gpt2 {
    layout: Layout,
    vocab: usize,
    context: usize,
    heads: Heads,
    epsilon: f64,
    token_embedding: usize,
    position_embedding: usize,
    blocks: Vec<Block>,
    final_norm: [usize; 2],
    head: Head,
}

/// Parameter indices of one block; pairs are weight and bias.
#[derive(Debug)]
struct Block {
    attention_norm: [usize; 2],
    qkv: [usize; 2],
    attention_out: [usize; 2],
    mlp_norm: [usize; 2],
    up: [usize; 2],
    down: [usize; 2],
}

impl Gpt2 {
    /// The model that a config.json at `path` describes.
    pub(crate) fn new(config: &Config, path: &Path) -> Result<Self, Error> {
        let unsupported = |field: &str, found: &str, supported: &str| {
            Err(Error::Unsupported {
                path: path.into(),
                field: field.into(),
                found: found.into(),
                supported: supported.into(),
            })
        };
        // `gelu_pytorch_tanh` is the same function by another name
        if !["gelu_new", "gelu_pytorch_tanh"].contains(&config.activation_function.as_str()) {
            return unsupported("activation_function", &config.activation_function, "gelu_new");
        }
        if !config.scale_attn_weights {
            return unsupported("scale_attn_weights", "false", "true");
        }
        if config.scale_attn_by_inverse_layer_idx {
            return unsupported("scale_attn_by_inverse_layer_idx", "true", "false");
        }
        if config.add_cross_attention {
            return unsupported("add_cross_attention", "true", "false");
        }
        if config.n_head == 0 || !config.n_embd.is_multiple_of(config.n_head) {
            return Err(Error::malformed(path, "`n_embd` must be a multiple of `n_head`"));
        }
        let hidden = config.n_embd;
        let inner = config.n_inner.unwrap_or(4 * hidden);
        let mut layout = Layout::default();
        let token_embedding = layout.push("transformer.wte.weight", &[config.vocab_size, hidden], false);
        let position_embedding = layout.push("transformer.wpe.weight", &[config.n_positions, hidden], false);
        let blocks = (0..config.n_layer)
            .map(|i| {
                let name = |part: &str| format!("transformer.h.{i}.{part}");
                let norm = |layout: &mut Layout, part: &str| {
                    let [weight, bias] = ["weight", "bias"].map(|of| name(&format!("{part}.{of}")));
                    [layout.push(weight, &[hidden], false), layout.push(bias, &[hidden], false)]
                };
                let linear = |layout: &mut Layout, part: &str, inputs: usize, outputs: usize| {
                    let [weight, bias] = ["weight", "bias"].map(|of| name(&format!("{part}.{of}")));
                    [
                        layout.push_linear(weight, [inputs, outputs], false),
                        layout.push(bias, &[outputs], false),
                    ]
                };
                Block {
                    attention_norm: norm(&mut layout, "ln_1"),
                    qkv: linear(&mut layout, "attn.c_attn", hidden, 3 * hidden),
                    attention_out: linear(&mut layout, "attn.c_proj", hidden, hidden),
                    mlp_norm: norm(&mut layout, "ln_2"),
                    up: linear(&mut layout, "mlp.c_fc", hidden, inner),
                    down: linear(&mut layout, "mlp.c_proj", inner, hidden),
                }
            })
            .collect();
        let final_norm = [
            layout.push("transformer.ln_f.weight", &[hidden], false),
            layout.push("transformer.ln_f.bias", &[hidden], false),
        ];
        let head = if config.tie_word_embeddings {
            Head { param: token_embedding, tied: true }
        } else {
            Head { param: layout.push("lm_head.weight", &[hidden, config.vocab_size], true), tied: false }
        };
        let heads = Heads {
            query: config.n_head,
            kv: config.n_head,
            dim: hidden / config.n_head,
            precision: MatmulPrecision::F32,
        };
        Ok(Self {
            layout,
            vocab: config.vocab_size,
            context: config.n_positions,
            heads,
            epsilon: config.layer_norm_epsilon,
            token_embedding,
            position_embedding,
            blocks,
            final_norm,
            head,
        })
    }

    fn norm(&self, params: &Params, x: Dual<3>, [weight, bias]: [usize; 2]) -> Dual<3> {
        Norm { is_centred: true, epsilon: self.epsilon, weight, bias: Some(bias) }.forward(params, x)
    }

    fn affine(&self, params: &Params, x: Dual<3>, [weight, bias]: [usize; 2]) -> Dual<3> {
        linear(params, x, weight, Some(bias), self.heads.precision)
    }

    /// `[batch, seq, hidden]`.
    fn positions(&self, params: &Params, context: &Context, [batch, seq]: [usize; 2]) -> Dual<3> {
        let (table, rows) = (self.position_embedding, context.rows);
        let ids: Arc<[u32]> = context.positions.iter().map(|&position| position as u32).collect();
        let of_batch = move |positions: Tensor<2>| {
            let hidden = positions.dims()[1];
            positions.reshape([rows, seq, hidden]).expand([batch, seq, hidden])
        };
        let positions = lookup(params, table, ids.clone()).linear_map(of_batch);
        params.note(table, positions, move |params| lookup_along(params, table, &ids).map(of_batch))
    }
}

impl CausalLm for Gpt2 {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context(&self) -> usize {
        self.context
    }

    fn layers(&self) -> usize {
        self.blocks.len()
    }

    fn head(&self) -> Head {
        self.head
    }

    fn lora_targets(&self) -> &'static [&'static str] {
        &["c_attn"]
    }

    fn adapt(&mut self, adapters: Layout) {
        self.layout = adapters;
    }

    fn precision(&self) -> MatmulPrecision {
        self.heads.precision
    }

    fn set_precision(&mut self, precision: MatmulPrecision) {
        self.heads.precision = precision;
    }

    fn hidden_after(
        &self,
        layers: usize,
        params: &Params,
        tokens: &Tokens,
        mut cache: Option<&mut Cache>,
    ) -> Dual<3> {
        let context = Context::new(tokens.dims(), cache.as_deref());
        let mut x = embedding(params, self.token_embedding, tokens, None)
            + self.positions(params, &context, tokens.dims());
        for (layer, block) in self.blocks.iter().take(layers).enumerate() {
            let h = self.norm(params, x.clone(), block.attention_norm);
            let qkv = self.affine(params, h, block.qkv);
            let cache = cache.as_deref_mut().map(|cache| (cache, layer));
            let mixed = packed_attention(params, self.heads, &context, cache, qkv);
            x = x + self.affine(params, mixed, block.attention_out);
            let h = self.norm(params, x.clone(), block.mlp_norm);
            x = x + self.affine(params, self.affine(params, h, block.up).gelu_new(), block.down);
        }
        if let Some(cache) = cache {
            cache.advance(tokens.dims()[1]);
        }
        if layers < self.blocks.len() { x } else { self.norm(params, x, self.final_norm) }
    }
}
