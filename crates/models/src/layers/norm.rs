//! Normalisation along the last dimension.

use burn::tensor::Tensor;

use crate::Dual;

/// Root-mean-square norm: `x / sqrt(mean(x^2) + eps) * weight`, over the last dimension of
/// `[batch, seq, n]` or of `[batch, heads, seq, n]`.
pub(crate) fn rms_norm<const D: usize>(x: Dual<D>, weight: Dual<1>, eps: f64) -> Dual<D> {
    let n = weight.dims()[0];
    let mean_square = mean_last(x.clone() * x.clone());
    let scale = mean_square.linear_shift(eps).rsqrt();
    let mut shape = [1; D];
    shape[D - 1] = n;
    x * scale * weight.reshape(shape)
}

/// Layer norm: `(x - mean) / sqrt(var + eps) * weight + bias` over the last dimension of
/// `[batch, seq, n]`.
pub(crate) fn layer_norm(x: Dual<3>, weight: Dual<1>, bias: Dual<1>, eps: f64) -> Dual<3> {
    let n = weight.dims()[0];
    let centred = x.clone() - mean_last(x);
    let variance = mean_last(centred.clone() * centred.clone());
    let scale = variance.linear_shift(eps).rsqrt();
    centred * scale * weight.reshape([1, 1, n]) + bias.reshape([1, 1, n])
}

fn mean_last<const D: usize>(x: Dual<D>) -> Dual<D> {
    x.linear_map(|x: Tensor<D>| x.mean_dim(D - 1))
}

impl<const D: usize> Dual<D> {
    /// `self + constant`.
    fn linear_shift(self, constant: f64) -> Self {
        Self::new(self.primal + constant, self.tangent)
    }
}
