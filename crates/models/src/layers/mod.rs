//! The layers that models are made of, each over [`Dual`](crate::Dual).

mod attention;
mod norm;
mod rope;

pub(crate) use attention::{Heads, attention, packed_attention};
pub(crate) use norm::Norm;
pub use rope::RopeScaling;
pub(crate) use rope::{Rope, rotate};

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{Dual, MatmulPrecision, Params, Tokens, composed::run, fused::Lookup, params::Padding};

/// `x [batch, seq, in] -> x W + b [batch, seq, out]` of the parameters of a linear layer; see [`Params::linear`].
pub(crate) fn linear(
    params: &Params,
    x: Dual<3>,
    weight: usize,
    bias: Option<usize>,
    precision: MatmulPrecision,
) -> Dual<3> {
    let [batch, seq, inputs] = x.dims();
    let y = params.linear(x.reshape([batch * seq, inputs]), weight, bias, precision);
    let outputs = y.dims()[1];
    y.reshape([batch, seq, outputs])
}

/// Rows of an embedding table `[rows, hidden]` for every token: `[batch, seq, hidden]`.
///
/// `padding` is a token that training does not move through its lookups, PyTorch's `padding_idx`; which
/// derivative leaves them out is said by [`Padding`].
pub(crate) fn embedding(params: &Params, table: usize, tokens: &Tokens, padding: Option<u32>) -> Dual<3> {
    let [batch, seq] = tokens.dims();
    let ids = tokens.flat();
    let rows = lookup(params, table, ids.clone());
    let mut rows = params.note(table, rows, move |params| lookup_along(params, table, &ids));
    let hidden = rows.dims()[1];
    if params.padding() != Padding::Kept
        && let Some(kept) = padding.and_then(|padding| tokens.others(params, padding))
    {
        if params.padding() == Padding::NoTangent {
            rows.tangent = rows.tangent.map(|tangent| tangent * kept);
        } else {
            let dropped = kept.clone().neg() + 1.0;
            rows.primal = rows.primal.clone() * kept + rows.primal.detach() * dropped;
        }
    }
    rows.reshape([batch, seq, hidden])
}

/// Rows of a table, in the type of the pass.
pub(crate) fn lookup(params: &Params, table: usize, rows: Arc<[u32]>) -> Dual<2> {
    let lookup = Lookup { rows };
    params.matrix(table).linear_map(|table| {
        let [rows] = run(lookup.clone(), [&table]);
        rows.cast(params.dtype())
    })
}

/// [`lookup`] moves by this along the table's tangent, if it has one.
pub(crate) fn lookup_along(params: &Params, table: usize, rows: &Arc<[u32]>) -> Option<Tensor<2>> {
    let lookup = Lookup { rows: rows.clone() };
    params.matrix(table).tangent.map(|table| {
        let [rows] = run(lookup, [&table]);
        rows
    })
}
