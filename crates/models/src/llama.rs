//! The Llama family: Llama (Touvron et al., 2023), Qwen2 and Qwen3, as Hugging Face stores them.
//!
//! Grouped-query attention, rotary positions, RMS norm, SwiGLU. Qwen2 adds biases to the query, key
//! and value projections; Qwen3 normalises each query and key head instead.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    Cache, CausalLm, Dual, Error, Head, Layout, MatmulPrecision, Params, Tokens,
    config::Keys,
    context::Context,
    layers::{Heads, Norm, Rope, RopeScaling, attention, embedding, linear, rotate},
};

/// The keys of config.json that change the computation.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what the keys of a Hugging Face config switch")]
pub(crate) struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    layers: usize,
    query_heads: usize,
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    hidden_act: String,
    tied: bool,
    /// Biases of the query, key and value projections.
    qkv_bias: bool,
    /// A bias of the projection after attention.
    out_bias: bool,
    mlp_bias: bool,
    /// Norms of each query and key head.
    head_norms: bool,
    /// Some layers see a window of the sequence alone.
    sliding_window: bool,
    rope_theta: Option<f64>,
    rope: Option<Map<String, Value>>,
    pad_token_id: Option<i64>,
}

impl Config {
    /// Absent keys have the defaults of `LlamaConfig`, `Qwen2Config` and `Qwen3Config`.
    pub(crate) fn read(keys: &Keys) -> Result<Self, Error> {
        let (qwen2, qwen3) = (keys.kind() == "qwen2", keys.kind() == "qwen3");
        let qwen = qwen2 || qwen3;
        let default = |of_qwen: u64, of_llama: u64| if qwen { of_qwen } else { of_llama };
        let layers = keys.get("num_hidden_layers", 32)?;
        let query_heads = keys.get("num_attention_heads", 32)?;
        let attention_bias = !qwen2 && keys.truthy("attention_bias", false);
        // older transformers write `rope_scaling`, newer ones `rope_parameters`; of both, version 5 takes the first
        let rope: Option<Map<String, Value>> = keys.get("rope_scaling", Value::Null)?;
        let newer: Option<Map<String, Value>> = keys.get("rope_parameters", Value::Null)?;
        Ok(Self {
            vocab_size: keys.get("vocab_size", default(151_936, 32_000))?,
            hidden_size: keys.get("hidden_size", 4096)?,
            intermediate_size: keys.get("intermediate_size", default(22_016, 11_008))?,
            layers,
            query_heads,
            kv_heads: keys.get("num_key_value_heads", if qwen { 32.into() } else { Value::Null })?,
            head_dim: keys.get("head_dim", if qwen3 { 128.into() } else { Value::Null })?,
            max_position_embeddings: keys.get("max_position_embeddings", default(32_768, 2048))?,
            rms_norm_eps: keys.get("rms_norm_eps", 1e-6)?,
            hidden_act: keys.get("hidden_act", "silu")?,
            tied: keys.truthy("tie_word_embeddings", false),
            qkv_bias: qwen2 || attention_bias,
            out_bias: attention_bias,
            mlp_bias: !qwen && keys.truthy("mlp_bias", false),
            head_norms: qwen3,
            sliding_window: qwen && slides(keys, layers)?,
            rope_theta: keys.get("rope_theta", Value::Null)?,
            rope: rope.filter(|map| !map.is_empty()).or(newer),
            pad_token_id: keys.get("pad_token_id", Value::Null)?,
        })
    }
}

/// Whether any layer of a Qwen model sees a window of the sequence alone: `layer_types` says so, or else the
/// layers from `max_window_layers` on do.
fn slides(keys: &Keys, layers: usize) -> Result<bool, Error> {
    let window: Option<usize> = keys.get("sliding_window", 4096)?;
    if !keys.truthy("use_sliding_window", false) || window.is_none() {
        return Ok(false);
    }
    let types: Option<Vec<String>> = keys.get("layer_types", Value::Null)?;
    Ok(match types {
        Some(types) => types.iter().any(|kind| kind == "sliding_attention"),
        None => keys.get::<usize>("max_window_layers", 28)? < layers,
    })
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
    padding: Option<u32>,
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
            weight: layout.push_linear(format!("{name}.weight"), [inputs, outputs], true),
            bias: bias.then(|| layout.push(format!("{name}.bias"), &[outputs], false)),
        }
    }

    fn forward(&self, params: &Params, x: Dual<3>, precision: MatmulPrecision) -> Dual<3> {
        linear(params, x, self.weight, self.bias, precision)
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
        // `swish` is the same function by another name
        if !["silu", "swish"].contains(&config.hidden_act.as_str()) {
            return unsupported("hidden_act", &config.hidden_act, "silu");
        }
        if config.sliding_window {
            return unsupported("use_sliding_window", "true", "false, or no layer with `sliding_attention`");
        }
        let heads = heads(config, path)?;
        let rope = Rope::new(heads.dim, rope_theta(config), rope_scaling(config, path)?);
        let hidden = config.hidden_size;
        let mut layout = Layout::default();
        let embedding = layout.push("model.embed_tokens.weight", &[config.vocab_size, hidden], false);
        let mut blocks = Vec::with_capacity(config.layers);
        for i in 0..config.layers {
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
                query: map(layout, "self_attn.q_proj", hidden, q, config.qkv_bias),
                key: map(layout, "self_attn.k_proj", hidden, kv, config.qkv_bias),
                value: map(layout, "self_attn.v_proj", hidden, kv, config.qkv_bias),
                attention_out: map(layout, "self_attn.o_proj", q, hidden, config.out_bias),
                head_norms: config.head_norms.then(|| {
                    [norm(layout, "self_attn.q_norm", heads.dim), norm(layout, "self_attn.k_norm", heads.dim)]
                }),
                mlp_norm: norm(layout, "post_attention_layernorm", hidden),
                gate: map(layout, "mlp.gate_proj", hidden, inner, config.mlp_bias),
                up: map(layout, "mlp.up_proj", hidden, inner, config.mlp_bias),
                down: map(layout, "mlp.down_proj", inner, hidden, config.mlp_bias),
            });
        }
        let final_norm = layout.push("model.norm.weight", &[hidden], false);
        let head = if config.tied {
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
            padding: padding(config, path),
            blocks,
            final_norm,
            head,
        })
    }

    fn norm<const D: usize>(&self, params: &Params, x: Dual<D>, weight: usize) -> Dual<D> {
        Norm { is_centred: false, epsilon: self.epsilon, weight, bias: None }.forward(params, x)
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

    fn padding(&self) -> Option<u32> {
        self.padding
    }

    fn lora_targets(&self) -> &'static [&'static str] {
        &["q_proj", "v_proj"]
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
        let precision = self.heads.precision;
        let context = Context::new(tokens.dims(), cache.as_deref());
        let rotation = self.rope.tables(&context);
        let mut x = embedding(params, self.embedding, tokens, self.padding);
        for (layer, block) in self.blocks.iter().take(layers).enumerate() {
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
            let gate = block.gate.forward(params, h.clone(), precision);
            let gated = gate.silu_times(&block.up.forward(params, h, precision));
            x = x + block.down.forward(params, gated, precision);
        }
        if let Some(cache) = cache {
            cache.advance(tokens.dims()[1]);
        }
        if layers < self.blocks.len() { x } else { self.norm(params, x, self.final_norm) }
    }
}

/// The row that `Embedding(padding_idx = pad_token_id)` keeps still; PyTorch counts a negative one from the
/// end.
fn padding(config: &Config, path: &Path) -> Option<u32> {
    let (id, rows) = (config.pad_token_id?, config.vocab_size as i64);
    let row = if id < 0 { id + rows } else { id };
    if !(0..rows).contains(&row) {
        tracing::warn!(
            file = %path.display(),
            "`pad_token_id` = {id} is outside of `vocab_size` = {rows}: transformers does not load this model; it is \
             read as if there were no padding token",
        );
        return None;
    }
    u32::try_from(row).ok()
}

fn heads(config: &Config, path: &Path) -> Result<Heads, Error> {
    let query = config.query_heads;
    let kv = config.kv_heads.unwrap_or(query);
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
    let nested = config.rope.as_ref().and_then(|map| map.get("rope_theta")?.as_f64());
    nested.or(config.rope_theta).unwrap_or(DEFAULT)
}

fn rope_scaling(config: &Config, path: &Path) -> Result<RopeScaling, Error> {
    let Some(map) = &config.rope else { return Ok(RopeScaling::None) };
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
