//! The inner loss: an example's is the mean cross-entropy over its scored tokens, a batch's a weighted
//! mean over its examples or their tokens. Padding never counts.

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Dual, Example, Params, Place, log_probs_at};

/// Losses of examples, `[examples.len()]`.
pub(crate) fn example_losses(lm: &dyn CausalLm, params: &Params, examples: &[&Example]) -> Dual<1> {
    let scored = |(row, example): (usize, &&Example)| -> Vec<Place> {
        let columns = 1..example.tokens.len();
        columns.filter(|&column| example.scored[column]).map(|column| Place { row, column }).collect()
    };
    let places: Vec<Vec<Place>> = examples.iter().enumerate().map(scored).collect();
    let log_probs = log_probs_at(lm, params, examples, &places.concat());

    // a row of tokens for each example, its end filled with one more log-probability, which is 0
    let (count, longest) = (log_probs.dims()[0], places.iter().map(Vec::len).max().unwrap_or(0));
    let (mut index, mut shares, mut first) = (vec![], vec![], 0);
    for places in &places {
        let filling = longest - places.len();
        index.extend((first..first + places.len()).map(|place| place as i64));
        index.extend(std::iter::repeat_n(count as i64, filling));
        shares.extend(std::iter::repeat_n(-1.0 / places.len() as f64, places.len()));
        shares.extend(std::iter::repeat_n(0.0, filling));
        first += places.len();
    }
    let (index, zero) = (params.integers(index, [examples.len() * longest]), params.constant(vec![0.0], [1]));
    let shares = params.constant(shares, [examples.len(), longest]);
    let rows = log_probs.linear_map(|x| Tensor::cat(vec![x, zero.clone()], 0)).select(0, index);
    rows.reshape([examples.len(), longest]).mul_constant(&shares).sum_dim(1).reshape([examples.len()])
}

/// Tokens of an example that have a label in transformers, which divides by their number: the scored ones, and
/// the first one where all others are scored, though nothing predicts it.
pub(crate) fn labels(example: &Example) -> usize {
    let scored = example.scored_len();
    scored + usize::from(scored + 1 == example.tokens.len())
}
