//! What rows of logits say of a token each; the formulas are those of [`fused`](crate::fused).

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::{dot, log_sum_exp_of};
use crate::{Dual, constant};

/// Log-probabilities `[rows, 1]` of `targets` under logits `[rows, columns]` of `vocab` tokens, the rest padding, with
/// their tangents if the logits have any. With `weights`, also what goes back to the logits and to their tangents from the
/// sum of the log-probabilities, or of their tangents if there are any, each times its weight. No tensor is tracked.
pub(crate) fn log_probs(
    logits: &Dual<2>,
    vocab: usize,
    targets: &[u32],
    weights: Option<&[f64]>,
) -> (Dual<2>, Option<Dual<2>>) {
    let x = &logits.primal;
    let column = [x.dims()[0], 1];
    let tokens: Vec<i64> = targets.iter().map(|&token| token.into()).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, column), &x.device());
    let chosen = |x: &Tensor<2>| x.clone().gather(1, tokens.clone());
    let log_sum = log_sum_exp_of(x.clone(), vocab);
    let y = chosen(x) - log_sum.clone();
    let g = weights.map(|weights| constant(weights.to_vec(), column, x));
    let p = || (x.clone() - log_sum.clone()).exp();
    // `g (e_t - p)`
    let away = |p: Tensor<2>, g: Tensor<2>| {
        (p.neg() * g.clone()).scatter(1, tokens.clone(), g, IndexingUpdateOp::Add)
    };
    let Some(dx) = &logits.tangent else {
        return (y.into(), g.map(|g| away(p(), g).into()));
    };
    let p = p();
    let mean = dot(&p, dx);
    let dy = chosen(dx) - mean.clone();
    // `-g p (x' - <p, x'>)` goes to x and `g (e_t - p)` to x'
    let back = g.map(|g| {
        let to_x = p.clone() * ((dx.clone() - mean) * g.clone()).neg();
        Dual::new(to_x, Some(away(p, g)))
    });
    (Dual::new(y, Some(dy)), back)
}
