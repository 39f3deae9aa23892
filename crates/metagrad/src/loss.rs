//! The inner loss: an example's is the mean cross-entropy over its scored tokens, a batch's the
//! weighted mean over its examples. Padding never counts.

use dpg_models::{CausalLm, Dual, Example, Params, log_probs};

/// Losses of examples, `[examples.len()]`.
pub(crate) fn example_losses(lm: &dyn CausalLm, params: &Params, examples: &[&Example]) -> Dual<1> {
    let log_probs = log_probs(lm, params, examples);
    let [batch, columns] = log_probs.dims();
    let mut shares = Vec::with_capacity(batch * columns);
    for example in examples {
        let share = -1.0 / example.scored_len() as f64;
        shares.extend(example.scored[1..].iter().map(|&scored| if scored { share } else { 0.0 }));
        shares.extend(std::iter::repeat_n(0.0, columns + 1 - example.tokens.len()));
    }
    let shares = params.constant(shares, [batch, columns]);
    log_probs.mul_constant(&shares).sum_dim(1).reshape([batch])
}
