//! The layers that models are made of, each over [`Dual`](crate::Dual).

mod attention;
mod norm;
mod rope;

pub(crate) use attention::{Heads, attention, packed_attention};
pub(crate) use norm::{layer_norm, rms_norm};
pub use rope::RopeScaling;
pub(crate) use rope::{Rope, rotate};

use crate::{Dual, MatmulPrecision, Params, Tokens, params::Padding};

/// `x [..., in] -> x W + b [..., out]` for a weight `[in, out]`.
pub(crate) fn linear(
    x: Dual<3>,
    weight: Dual<2>,
    bias: Option<Dual<1>>,
    precision: MatmulPrecision,
) -> Dual<3> {
    let [batch, seq, inputs] = x.dims();
    let outputs = weight.dims()[1];
    let x = x.reshape([batch * seq, inputs]);
    x.linear(weight, bias.map(|bias| bias.reshape([1, outputs])), precision).reshape([batch, seq, outputs])
}

/// Rows of an embedding table `[rows, hidden]` for every token: `[batch, seq, hidden]`.
///
/// `padding` is a token that training does not move through its lookups, PyTorch's `padding_idx`; which
/// derivative leaves them out is said by [`Padding`].
pub(crate) fn embedding(params: &Params, table: usize, tokens: &Tokens, padding: Option<u32>) -> Dual<3> {
    let [batch, seq] = tokens.dims();
    let table = params.matrix(table);
    let hidden = table.dims()[1];
    let mut rows = table.select(0, tokens.flat(params));
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
