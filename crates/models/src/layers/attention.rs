//! Causal attention with grouped key-value heads.

use crate::{
    Dual, MatmulPrecision, Params,
    context::{Cache, Context, Mask},
    dual::causal_attention,
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
    /// Of the products.
    pub(crate) precision: MatmulPrecision,
}

impl Heads {
    /// Attention of whole sequences, `[batch, seq, heads * dim]`; `None` if there is a cache or another mask
    /// than the causal one.
    fn whole(self, context: &Context, cached: bool, inputs: &[Dual<3>]) -> Option<Dual<3>> {
        let is_whole = !cached && matches!(context.mask, Mask::Causal);
        is_whole.then(|| causal_attention(self.kernel(), inputs))
    }

    fn kernel(self) -> Attention {
        Attention { query: self.query, kv: self.kv, dim: self.dim, precision: self.precision }
    }
}

/// [`attention`] of queries, keys and values side by side, `[batch, seq, (query + 2 kv) * dim]`.
pub(crate) fn packed_attention(
    params: &Params,
    heads: Heads,
    context: &Context,
    cache: Option<(&mut Cache, usize)>,
    qkv: Dual<3>,
) -> Dual<3> {
    if let Some(mixed) = heads.whole(context, cache.is_some(), std::slice::from_ref(&qkv)) {
        return mixed;
    }
    let [batch, seq, _] = qkv.dims();
    let part = |first: usize, count: usize| {
        let part = qkv.clone().narrow(2, first * heads.dim, count * heads.dim);
        part.reshape([batch, seq, count, heads.dim])
    };
    let (query, kv) = (heads.query, heads.kv);
    attention(params, heads, context, cache, [part(0, query), part(query, kv), part(query + kv, kv)])
}

/// `softmax(q k^T / sqrt(dim) + mask) v`.
///
/// `q [batch, seq, query, dim]`, `k` and `v` `[batch, seq, kv, dim]`; returns
/// `[batch, seq, query * dim]`. The query heads of a group are stacked along the sequence, so that
/// no key or value is copied.
pub(crate) fn attention(
    params: &Params,
    heads: Heads,
    context: &Context,
    mut cache: Option<(&mut Cache, usize)>,
    parts: [Dual<4>; 3],
) -> Dual<3> {
    let [batch, seq, _, dim] = parts[0].dims();
    let flat = parts.clone().map(|part| {
        let width = part.dims()[2] * dim;
        part.reshape([batch, seq, width])
    });
    if let Some(mixed) = heads.whole(context, cache.is_some(), &flat) {
        return mixed;
    }
    if let Some((cache, layer)) = &mut cache
        && heads.precision == MatmulPrecision::F32
    {
        let parts = flat.each_ref().map(|part| &part.primal);
        if let Some(mixed) = cache.attend(*layer, heads.kernel(), parts) {
            return mixed.into();
        }
    }
    let [q, k, v] = parts.map(|part| part.swap_dims(1, 2));
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
    let scores = q.matmul(k.swap_dims(2, 3), heads.precision).reshape([batch, heads.query, seq, keys]);
    let (scores, causal) = match &context.mask {
        Mask::None => (scores, None),
        Mask::Causal => (scores, Some(seq)),
        Mask::Padded { padding, start } => {
            (scores.add_constant(Mask::scores(params, padding, *start, seq)), None)
        }
    };
    let weights = scores.softmax(1.0 / (dim as f64).sqrt(), causal);
    let mixed = weights.reshape([batch, heads.kv, group * seq, keys]).matmul(v, heads.precision);
    mixed.reshape([batch, heads.query, seq, dim]).swap_dims(1, 2).reshape([batch, seq, heads.query * dim])
}
