//! Causal language models, each written once over dual numbers.
//!
//! A model is a pure function of one flat parameter vector ([`CausalLm`]); its files are a Hugging
//! Face folder. [`Dual`] makes the same code a plain forward pass, a Jacobian-vector product, or,
//! under autodiff, the forward half of a Hessian-vector product.

mod allocator;
mod autodiff;
mod backend;
mod chat;
mod composed;
mod config;
mod context;
pub mod device;
mod dual;
mod error;
mod example;
mod export;
mod files;
mod fused;
mod gpt2;
mod layers;
mod layout;
mod llama;
mod lm;
mod logits;
mod lora;
mod matmul;
mod memory;
mod model;
mod params;
mod patterns;
mod predictions;
mod products;
mod sampler;
mod stored_type;
mod tokenizer;
mod trace;
mod vector;
pub mod weights;

pub use allocator::{Allocator, give_back_large, keep_freed_memory, make_room_for};
pub use chat::{ChatTemplate, Conversation, Rendered};
pub use composed::Objective;
pub use config::{architecture, dropout, from_config};
pub use context::{Cache, Tokens};
pub use dual::Dual;
pub use error::Error;
pub use example::Example;
pub use export::export;
pub use fused::{FEW_ROWS, Real, Sweep, can_sweep, sweep, zeros_like};
pub use gpt2::Gpt2;
pub use layers::RopeScaling;
pub use layout::{Layout, Param};
pub use llama::Llama;
pub use lm::{
    CausalLm, Head, Place, activations, check_tokens, chunk_of_logits, hidden_at, kept_of_rollout,
    kl_divergence, log_probs, logits, logits_at, places, together, traced, width,
};
pub use logits::Logits;
pub use lora::{Adapters, Frozen, adapter_layout, load_adapter, name_base};
pub use matmul::MatmulPrecision;
pub use memory::available_memory;
pub use model::Model;
pub use params::{LeafGradients, Params, constant};
pub use predictions::{Predictions, log_probs_at};
pub use products::product_errors;
pub use sampler::{Completion, Sampling, keyed_rng, sample, sample_until};
pub use stored_type::StoredType;
pub use tokenizer::{Tokenizer, common_prefix};
pub use trace::Trace;
pub use vector::{load_vector, vector_file};
