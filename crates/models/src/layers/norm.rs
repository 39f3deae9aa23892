//! Normalisation along the last dimension.

use crate::{Dual, Params, params::untracked};

/// A norm of the model, by its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    /// `x - mean(x)` instead of x: layer norm instead of the root-mean-square one.
    pub(crate) is_centred: bool,
    pub(crate) epsilon: f64,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

impl Norm {
    /// `x / sqrt(mean(x^2) + epsilon) * weight (+ bias)` over the last dimension of `[batch, seq, n]` or of
    /// `[batch, seq, heads, n]`.
    pub(crate) fn forward<const D: usize>(self, params: &Params, x: Dual<D>) -> Dual<D> {
        let kept = untracked(&x.primal);
        let y = x.norm(
            self.is_centred,
            self.epsilon,
            row(params.vector(self.weight)),
            self.bias.map(|bias| row(params.vector(bias))),
        );
        params.note(self.weight, y, move |params| {
            let weight = params.vector(self.weight);
            let bias = self.bias.and_then(|bias| params.vector(bias).tangent);
            if weight.tangent.is_none() && bias.is_none() {
                return None;
            }
            // y is linear in both
            let weight = row(weight.tangent_or_zero().into());
            let bias = bias.map(|bias| row(bias.into()));
            Some(Dual::from(kept.clone()).norm(self.is_centred, self.epsilon, weight, bias).primal)
        })
    }
}

fn row<const D: usize>(vector: Dual<1>) -> Dual<D> {
    let mut shape = [1; D];
    shape[D - 1] = vector.dims()[0];
    vector.reshape(shape)
}
