//! Causal attention with grouped key-value heads.

use crate::{
    Dual,
    context::{Cache, Context, Mask},
    dual::fused_attention,
    fused::Attention,
};

/// Heads of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads; each serves `query / kv` query heads in a row.
    pub(crate) kv: usize,
    /// Width of a head.
    pub(crate) dim: usize,
}

impl Heads {
    /// `[batch, seq, heads * dim] -> [batch, heads, seq, dim]`.
    pub(crate) fn split(self, x: Dual<3>, heads: usize) -> Dual<4> {
        let [batch, seq, _] = x.dims();
        x.reshape([batch, seq, heads, self.dim]).swap_dims(1, 2)
    }
}

/// Causal attention of whole sequences without a cache, fused: of `[query, key, value]`, each
/// `[batch, seq, heads * dim]`, or of one tensor that holds them side by side.
pub(crate) fn whole_attention(heads: Heads, context: &Context, inputs: &[Dual<3>]) -> Option<Dual<3>> {
    if !matches!(context.mask, Mask::Causal) {
        return None;
    }
    fused_attention(Attention { query: heads.query, kv: heads.kv, dim: heads.dim }, inputs)
}

/// `softmax(q k^T / sqrt(dim) + mask) v`.
///
/// `q [batch, query, seq, dim]`, `k` and `v` `[batch, kv, seq, dim]`; returns
/// `[batch, seq, query * dim]`. The query heads of a group are stacked along the sequence, so that
/// no key or value is copied.
pub(crate) fn attention(
    heads: Heads,
    context: &Context,
    cache: Option<(&mut Cache, usize)>,
    q: Dual<4>,
    k: Dual<4>,
    v: Dual<4>,
) -> Dual<3> {
    let [batch, _, seq, dim] = q.dims();
    let (k, v) = match cache {
        None => (k, v),
        Some((cache, layer)) => {
            let (k, v) = cache.append(layer, k.primal, v.primal);
            (k.into(), v.into())
        }
    };
    let keys = k.dims()[2];
    let group = heads.query / heads.kv;
    let q = q.reshape([batch, heads.kv, group * seq, dim]);
    let scores = q.matmul(k.swap_dims(2, 3)).reshape([batch, heads.query, seq, keys]);
    let (scores, causal) = match &context.mask {
        Mask::None => (scores, None),
        Mask::Causal => (scores, Some(seq)),
        Mask::Rows(mask) => (scores.add_constant(mask.clone()), None),
    };
    let weights = scores.softmax(1.0 / (dim as f64).sqrt(), causal);
    let mixed = weights.reshape([batch, heads.kv, group * seq, keys]).matmul(v);
    mixed.reshape([batch, heads.query, seq, dim]).swap_dims(1, 2).reshape([batch, seq, heads.query * dim])
}
