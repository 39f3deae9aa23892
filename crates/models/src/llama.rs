//! The Llama family: Llama (Touvron et al., 2023), Qwen2 and Qwen3, as Hugging Face stores them.
//!
//! Grouped-query attention, rotary positions, RMS norm, SwiGLU. Qwen2 adds biases to the query, key
//! and value projections; Qwen3 normalises each query and key head instead.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Cache, CausalLm, Dual, Error, Head, Layout, MatmulPrecision, Params, Tokens,
    context::Context,
    layers::{Heads, Rope, RopeScaling, attention, embedding, linear, rms_norm, rotate},
};

/// The keys of config.json that change the computation.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    attention_bias: Option<bool>,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    /// What newer transformers write instead of the two keys above.
    rope_parameters: Option<Map<String, Value>>,
}

fn silu() -> String {
    "silu".into()
}

/// A model of the Llama family of given sizes.
#[derive(Debug)]
pub struct Llama {
    layout: Layout,
    vocab: usize,
    context: usize,
    heads: Heads,
    epsilon: f64,
    rope: Rope,
    embedding: usize,
    blocks: Vec<Block>,
    final_norm: usize,
    head: Head,
}

/// Parameter indices of one block.
#[derive(Debug)]
struct Block {
    attention_norm: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_out: Linear,
    /// Norms of each query and key head (Qwen3).
    head_norms: Option<[usize; 2]>,
    mlp_norm: usize,
    gate: Linear,
    up: Linear,
    down: Linear,
}

#[derive(Debug)]
struct Linear {
    weight: usize,
    bias: Option<usize>,
}

impl Linear {
    fn new(layout: &mut Layout, name: &str, inputs: usize, outputs: usize, bias: bool) -> Self {
        Self {
            weight: layout.push(format!("{name}.weight"), &[inputs, outputs], true),
            bias: bias.then(|| layout.push(format!("{name}.bias"), &[outputs], false)),
        }
    }

    fn forward(&self, params: &Params, x: Dual<3>, precision: MatmulPrecision) -> Dual<3> {
        linear(x, params.matrix(self.weight), self.bias.map(|bias| params.vector(bias)), precision)
    }
}

impl Llama {
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
        if config.hidden_act != "silu" {
            return unsupported("hidden_act", &config.hidden_act, "silu");
        }
        if config.use_sliding_window {
            return unsupported("use_sliding_window", "true", "false");
        }
        let heads = heads(config, path)?;
        let rope = Rope::new(heads.dim, rope_theta(config), rope_scaling(config, path)?);
        let hidden = config.hidden_size;
        let (qkv_bias, out_bias) = match config.model_type.as_str() {
            "qwen2" => (true, false),
            _ => (config.attention_bias.unwrap_or(false), config.attention_bias.unwrap_or(false)),
        };
        let mut layout = Layout::default();
        let embedding = layout.push("model.embed_tokens.weight", &[config.vocab_size, hidden], false);
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for i in 0..config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let (q, kv, inner) = (heads.query * heads.dim, heads.kv * heads.dim, config.intermediate_size);
            let norm = |layout: &mut Layout, part: &str, width: usize| {
                layout.push(name(&format!("{part}.weight")), &[width], false)
            };
            let map = |layout: &mut Layout, part: &str, inputs, outputs, bias| {
                Linear::new(layout, &name(part), inputs, outputs, bias)
            };
            let layout = &mut layout;
            blocks.push(Block {
                attention_norm: norm(layout, "input_layernorm", hidden),
                query: map(layout, "self_attn.q_proj", hidden, q, qkv_bias),
                key: map(layout, "self_attn.k_proj", hidden, kv, qkv_bias),
                value: map(layout, "self_attn.v_proj", hidden, kv, qkv_bias),
                attention_out: map(layout, "self_attn.o_proj", q, hidden, out_bias),
                head_norms: (config.model_type == "qwen3").then(|| {
                    [norm(layout, "self_attn.q_norm", heads.dim), norm(layout, "self_attn.k_norm", heads.dim)]
                }),
                mlp_norm: norm(layout, "post_attention_layernorm", hidden),
                gate: map(layout, "mlp.gate_proj", hidden, inner, config.mlp_bias),
                up: map(layout, "mlp.up_proj", hidden, inner, config.mlp_bias),
                down: map(layout, "mlp.down_proj", inner, hidden, config.mlp_bias),
            });
        }
        let final_norm = layout.push("model.norm.weight", &[hidden], false);
        let head = if config.tie_word_embeddings {
            Head { param: embedding, tied: true }
        } else {
            Head { param: layout.push("lm_head.weight", &[hidden, config.vocab_size], true), tied: false }
        };
        Ok(Self {
            layout,
            vocab: config.vocab_size,
            context: config.max_position_embeddings,
            heads,
            epsilon: config.rms_norm_eps,
            rope,
            embedding,
            blocks,
            final_norm,
            head,
        })
    }

    fn norm<const D: usize>(&self, params: &Params, x: Dual<D>, weight: usize) -> Dual<D> {
        rms_norm(x, params.vector(weight), self.epsilon)
    }
}

impl CausalLm for Llama {
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

    fn precision(&self) -> MatmulPrecision {
        self.heads.precision
    }

    fn set_precision(&mut self, precision: MatmulPrecision) {
        self.heads.precision = precision;
    }

    fn hidden(&self, params: &Params, tokens: &Tokens, mut cache: Option<&mut Cache>) -> Dual<3> {
        let precision = self.heads.precision;
        let context = Context::new(tokens.dims(), cache.as_deref());
        let rotation = self.rope.tables(&context);
        let mut x = embedding(params, self.embedding, tokens);
        for (layer, block) in self.blocks.iter().enumerate() {
            let h = self.norm(params, x.clone(), block.attention_norm);
            let [batch, seq, _] = h.dims();
            let heads = |x: Dual<3>, heads: usize| x.reshape([batch, seq, heads, self.heads.dim]);
            let mut q = heads(block.query.forward(params, h.clone(), precision), self.heads.query);
            let mut k = heads(block.key.forward(params, h.clone(), precision), self.heads.kv);
            let v = heads(block.value.forward(params, h, precision), self.heads.kv);
            if let Some([query_norm, key_norm]) = block.head_norms {
                q = self.norm(params, q, query_norm);
                k = self.norm(params, k, key_norm);
            }
            let (q, k) = (rotate(params, q, &rotation), rotate(params, k, &rotation));
            let cache = cache.as_deref_mut().map(|cache| (cache, layer));
            let mixed = attention(params, self.heads, &context, cache, [q, k, v]);
            x = x + block.attention_out.forward(params, mixed, precision);
            let h = self.norm(params, x.clone(), block.mlp_norm);
            let gate = block.gate.forward(params, h.clone(), precision).silu();
            x = x + block.down.forward(params, gate * block.up.forward(params, h, precision), precision);
        }
        if let Some(cache) = cache {
            cache.advance(tokens.dims()[1]);
        }
        self.norm(params, x, self.final_norm)
    }
}

fn heads(config: &Config, path: &Path) -> Result<Heads, Error> {
    let query = config.num_attention_heads;
    let kv = config.num_key_value_heads.unwrap_or(query);
    if query == 0 || kv == 0 || !query.is_multiple_of(kv) {
        return Err(Error::malformed(
            path,
            "`num_attention_heads` must be a multiple of `num_key_value_heads`, both at least 1",
        ));
    }
    let dim = config.head_dim.unwrap_or(config.hidden_size / query);
    if !dim.is_multiple_of(2) {
        return Err(Error::malformed(
            path,
            format!("the head width must be even for rotary positions, found {dim}"),
        ));
    }
    Ok(Heads { query, kv, dim, precision: MatmulPrecision::F32 })
}

fn rope_theta(config: &Config) -> f64 {
    const DEFAULT: f64 = 10_000.0;
    let nested = |map: &Option<Map<String, Value>>| map.as_ref()?.get("rope_theta")?.as_f64();
    nested(&config.rope_parameters).or(config.rope_theta).or(nested(&config.rope_scaling)).unwrap_or(DEFAULT)
}

fn rope_scaling(config: &Config, path: &Path) -> Result<RopeScaling, Error> {
    let Some(map) = config.rope_parameters.as_ref().or(config.rope_scaling.as_ref()) else {
        return Ok(RopeScaling::None);
    };
    let number = |key: &str| {
        map.get(key).and_then(Value::as_f64).ok_or_else(|| {
            Error::malformed(
                path,
                format!("the rope parameters have no number `{key}`, which their type needs"),
            )
        })
    };
    // older files say `type` for `rope_type`
    let kind = map.get("rope_type").or_else(|| map.get("type")).and_then(Value::as_str).unwrap_or("default");
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_frequency_factor: number("low_freq_factor")?,
            high_frequency_factor: number("high_freq_factor")?,
            original_context: number("original_max_position_embeddings")?,
        }),
        other => Err(Error::Unsupported {
            path: path.into(),
            field: "rope_type".into(),
            found: other.into(),
            supported: "default, linear, llama3".into(),
        }),
    }
}
