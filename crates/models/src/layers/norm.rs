//! Normalisation along the last dimension.

use crate::Dual;

/// Root-mean-square norm: `x / sqrt(mean(x^2) + eps) * weight`, over the last dimension of
/// `[batch, seq, n]` or of `[batch, heads, seq, n]`.
pub(crate) fn rms_norm<const D: usize>(x: Dual<D>, weight: Dual<1>, eps: f64) -> Dual<D> {
    x.norm(false, eps, row(weight), None)
}

/// Layer norm: `(x - mean) / sqrt(var + eps) * weight + bias` over the last dimension of
/// `[batch, seq, n]`.
pub(crate) fn layer_norm(x: Dual<3>, weight: Dual<1>, bias: Dual<1>, eps: f64) -> Dual<3> {
    x.norm(true, eps, row(weight), Some(row(bias)))
}

fn row<const D: usize>(vector: Dual<1>) -> Dual<D> {
    let mut shape = [1; D];
    shape[D - 1] = vector.dims()[0];
    vector.reshape(shape)
}
