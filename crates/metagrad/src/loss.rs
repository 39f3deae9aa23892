//! The inner loss: an example's is the mean cross-entropy over its scored tokens, a batch's a weighted
//! mean over its examples or their tokens. Padding never counts. Beside it, what metrics read off examples.

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Dual, Example, Params, Place, kl_divergence, log_probs_at, logits_at};

/// Losses of examples, `[examples.len()]`.
pub(crate) fn example_losses(lm: &dyn CausalLm, params: &Params, examples: &[&Example]) -> Dual<1> {
    let places = scored(examples);
    let log_probs = log_probs_at(lm, params, examples, &places.concat());
    sums(params, &places, log_probs, |tokens| -1.0 / tokens as f64)
}

/// What each token has of the tangent of its example's loss, example after example; 0 where it is not scored.
pub(crate) fn token_loss_tangents(lm: &dyn CausalLm, params: &Params, examples: &[&Example]) -> Vec<f64> {
    let places = scored(examples);
    let log_probs = log_probs_at(lm, params, examples, &places.concat());
    // without a tangent it is 0 where the losses look
    let mut tangents: Vec<f64> =
        log_probs.tangent.map_or(vec![], |tangents| tangents.to_data_as::<f64>().iter().collect());
    tangents.resize(places.iter().map(Vec::len).sum(), 0.0);
    let mut tangents = tangents.into_iter();
    let mut each = vec![];
    for (example, places) in examples.iter().zip(&places) {
        let mut of_example = vec![0.0; example.tokens.len()];
        for (place, tangent) in places.iter().zip(&mut tangents) {
            of_example[place.column] = -tangent / places.len() as f64;
        }
        each.extend(of_example);
    }
    each
}

/// Log-probabilities of all scored tokens of each example, `[examples.len()]`.
pub(crate) fn example_log_probs(lm: &dyn CausalLm, params: &Params, examples: &[&Example]) -> Tensor<1> {
    let places = scored(examples);
    let log_probs = log_probs_at(lm, params, examples, &places.concat());
    sums(params, &places, log_probs, |_| 1.0).primal
}

/// `KL(p || q)` of predictions, p the model's and q those that other logits `[tokens, vocab]` stand for, as a mean
/// over the scored tokens of each example: `[examples.len()]`.
pub(crate) fn example_divergences(
    lm: &dyn CausalLm,
    params: &Params,
    examples: &[&Example],
    others: impl FnOnce(&Tensor<2>) -> Tensor<2>,
) -> Tensor<1> {
    let places = scored(examples);
    let logits = logits_at(lm, params, examples, &places.concat()).primal;
    let divergences = kl_divergence(&logits, &others(&logits));
    sums(params, &places, divergences.into(), |tokens| 1.0 / tokens as f64).primal
}

/// The places of each example's scored tokens.
pub(crate) fn scored(examples: &[&Example]) -> Vec<Vec<Place>> {
    let scored = |(row, example): (usize, &&Example)| -> Vec<Place> {
        let columns = 1..example.tokens.len();
        columns.filter(|&column| example.scored[column]).map(|column| Place { row, column }).collect()
    };
    examples.iter().enumerate().map(scored).collect()
}

/// The numbers `[places]` of each example's places, each times what it has of so many, summed: `[examples]`.
fn sums(params: &Params, places: &[Vec<Place>], numbers: Dual<1>, share: impl Fn(usize) -> f64) -> Dual<1> {
    // a row of places for each example, its end filled with one more number, which is 0
    let examples = places.len();
    let (count, longest) = (numbers.dims()[0], places.iter().map(Vec::len).max().unwrap_or(0));
    let (mut index, mut shares, mut first) = (vec![], vec![], 0);
    for places in places {
        let filling = longest - places.len();
        index.extend((first..first + places.len()).map(|place| place as i64));
        index.extend(std::iter::repeat_n(count as i64, filling));
        shares.extend(std::iter::repeat_n(share(places.len()), places.len()));
        shares.extend(std::iter::repeat_n(0.0, filling));
        first += places.len();
    }
    let (index, zero) = (params.integers(index, [examples * longest]), params.constant(vec![0.0], [1]));
    let shares = params.constant(shares, [examples, longest]);
    let rows = numbers.linear_map(|x| Tensor::cat(vec![x, zero.clone()], 0)).select(0, index);
    rows.reshape([examples, longest]).mul_constant(&shares).sum_dim(1).reshape([examples])
}

/// Tokens of an example that have a label in transformers, which divides by their number: the scored ones, and
/// the first one where all others are scored, though nothing predicts it. In packed rows that one has none.
pub(crate) fn labels(example: &Example, packed: bool) -> usize {
    let scored = example.scored_len();
    scored + usize::from(!packed && scored + 1 == example.tokens.len())
}
