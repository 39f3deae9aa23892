//! The inner loss: an example's is the mean cross-entropy over its scored tokens, a batch's a weighted
//! mean over its examples or their tokens. Padding never counts. Beside it, what metrics read off examples.

use std::ops::Range;

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Example, Logits, Objective, Params, Place, Predictions, constant, kl_divergence};

/// The scored tokens of examples as a model predicts them.
pub(crate) struct Scored {
    /// Tokens of each example,
    lengths: Vec<usize>,
    /// and those that are scored.
    places: Vec<Vec<Place>>,
    predictions: Predictions,
}

impl Scored {
    pub(crate) fn new(lm: &dyn CausalLm, params: &Params, examples: &[&Example]) -> Self {
        let places = scored(examples);
        let predictions = Predictions::at(lm, params, examples, &places.concat());
        let lengths = examples.iter().map(|example| example.tokens.len()).collect();
        Self { lengths, places, predictions }
    }

    /// Log-probabilities of all scored tokens of each example.
    pub(crate) fn log_probs(&self) -> Vec<f64> {
        let log_probs = self.predictions.log_probs().primal.to_data_as::<f64>();
        let mut log_probs = log_probs.iter::<f64>();
        self.places.iter().map(|places| log_probs.by_ref().take(places.len()).sum()).collect()
    }

    /// The sum of the examples' log-probabilities, each times its weight.
    pub(crate) fn weighed_log_probs(&self, weights: &[f64]) -> Objective {
        self.weighed(weights, |_| 1.0).1
    }

    /// The sum of the examples' losses, each times its weight.
    pub(crate) fn weighed_loss(&self, weights: &[f64]) -> Objective {
        self.weighed(weights, of_loss).1
    }

    /// What each token of the examples has of the tangent of its example's loss, 0 where it is not scored.
    pub(crate) fn tangents(&self) -> Vec<Vec<f64>> {
        self.by_token(self.predictions.log_probs().tangent)
    }

    /// What each example's loss moves by along the tangent of the head in `params`, with the hidden states as they are.
    pub(crate) fn tangents_of_head(&self, lm: &dyn CausalLm, params: &Params) -> Vec<f64> {
        of_examples(&self.by_token(self.predictions.along(lm, params)))
    }

    /// What [`tangents`](Self::tangents) gives, and the sum of the losses' tangents, each times its example's weight;
    /// none if they are zero whatever the weights of the model are.
    pub(crate) fn weighed_tangents(&self, weights: &[f64]) -> (Vec<Vec<f64>>, Option<Objective>) {
        let (tangents, sum) = self.weighed(weights, of_loss);
        let sum = tangents.is_some().then_some(sum);
        (self.by_token(tangents), sum)
    }

    /// Tangents of the tokens' log-probabilities, and the sum of weighed ones: of each token its example's weight times
    /// what it has of its example.
    fn weighed(&self, weights: &[f64], share: impl Fn(usize) -> f64) -> (Option<Tensor<1>>, Objective) {
        let weights = of_tokens(self.places.iter().map(Vec::len), weights, share);
        let (log_probs, sum) = self.predictions.weighed(&weights);
        (log_probs.tangent, sum)
    }

    fn by_token(&self, log_probs: Option<Tensor<1>>) -> Vec<Vec<f64>> {
        let mut tokens: Vec<_> = self.lengths.iter().map(|&length| vec![0.0; length]).collect();
        // without any they are 0 where the losses look
        let log_probs = log_probs.map_or(vec![], |x| x.to_data_as::<f64>().iter::<f64>().collect());
        let places = self.places.iter().flat_map(|places| places.iter().map(|place| (place, places.len())));
        for ((place, scored), log_prob) in places.zip(log_probs) {
            tokens[place.row][place.column] = log_prob * of_loss(scored);
        }
        tokens
    }
}

/// The examples' numbers, of which each token has a part.
pub(crate) fn of_examples(by_token: &[Vec<f64>]) -> Vec<f64> {
    by_token.iter().map(|tokens| tokens.iter().sum()).collect()
}

/// What each of so many tokens has of its example's loss.
pub(crate) fn of_loss(tokens: usize) -> f64 {
    -1.0 / tokens as f64
}

/// What each scored token has of its example's weight: `share` of it, given how many the example has.
fn of_tokens(scored: impl Iterator<Item = usize>, weights: &[f64], share: impl Fn(usize) -> f64) -> Vec<f64> {
    let of_example = |(scored, weight): (usize, &f64)| std::iter::repeat_n(weight * share(scored), scored);
    scored.zip(weights).flat_map(of_example).collect()
}

/// Logits of other predictions of some places, `[places, vocab]` as the model's are. Not tracked.
type Others = dyn Fn(Range<usize>, &Tensor<2>) -> Tensor<2>;

/// How far the predictions of some texts' scored tokens are from others of the same places.
pub(crate) struct Divergences {
    logits: Logits,
    others: Box<Others>,
    /// Scored tokens of each text.
    scored: Vec<usize>,
}

impl Divergences {
    pub(crate) fn new(
        lm: &dyn CausalLm,
        params: &Params,
        texts: &[&Example],
        others: impl Fn(Range<usize>, &Tensor<2>) -> Tensor<2> + 'static,
    ) -> Self {
        let places = scored(texts);
        let logits = Logits::at(lm, params, texts, &places.concat());
        Self { logits, others: Box::new(others), scored: places.iter().map(Vec::len).collect() }
    }

    /// `KL(p || q)`, p the model's prediction and q the other one, as a mean over the scored tokens of each text.
    pub(crate) fn means(&self) -> Vec<f64> {
        let of_places = |places: Range<usize>| {
            let p = self.logits.of(places.clone());
            kl_divergence(&p, &(self.others)(places, &p))
                .to_data_as::<f64>()
                .iter::<f64>()
                .collect::<Vec<_>>()
        };
        let mut each = self.logits.chunks().flat_map(of_places);
        let mean = |&scored: &usize| each.by_ref().take(scored).sum::<f64>() / scored as f64;
        self.scored.iter().map(mean).collect()
    }

    /// The sum of the means, each times its weight.
    pub(crate) fn weighed(&self, weights: &[f64]) -> Objective {
        let weights = of_tokens(self.scored.iter().copied(), weights, |scored| 1.0 / scored as f64);
        self.logits.sum(|places, p| {
            let others = (self.others)(places.clone(), &p.clone().inner()).autodiff();
            let weights = constant(weights[places.clone()].to_vec(), [places.len()], &p);
            (kl_divergence(&p, &others) * weights).sum()
        })
    }
}

/// The places of each example's scored tokens.
pub(crate) fn scored(examples: &[&Example]) -> Vec<Vec<Place>> {
    let scored = |(row, example): (usize, &&Example)| -> Vec<Place> {
        let columns = 1..example.tokens.len();
        columns.filter(|&column| example.scored[column]).map(|column| Place { row, column }).collect()
    };
    examples.iter().enumerate().map(scored).collect()
}

/// Tokens of an example that have a label in transformers, which divides by their number: the scored ones, and
/// the first one where all others are scored, though nothing predicts it. In packed rows that one has none.
pub(crate) fn labels(example: &Example, packed: bool) -> usize {
    let scored = example.scored_len();
    scored + usize::from(!packed && scored + 1 == example.tokens.len())
}
