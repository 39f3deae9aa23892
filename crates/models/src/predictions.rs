//! Log-probabilities of tokens, and the way back from them.

use burn::tensor::Tensor;

use crate::{CausalLm, Dual, Logits, Objective, Params, Place, composed, fused};

/// What a model says of the tokens at some places of rows.
pub struct Predictions {
    logits: Logits,
    /// The tokens.
    targets: Vec<u32>,
}

impl Predictions {
    /// Predictions of the tokens at `places` given those before them.
    pub fn at<R: AsRef<[u32]>>(lm: &dyn CausalLm, params: &Params, rows: &[R], places: &[Place]) -> Self {
        let targets = places.iter().map(|place| rows[place.row].as_ref()[place.column]).collect();
        Self::of(Logits::at(lm, params, rows, places), targets)
    }

    pub(crate) fn of(logits: Logits, targets: Vec<u32>) -> Self {
        Self { logits, targets }
    }

    /// Tangents of the log-probabilities that come from the head's alone, `[places]`; none if it has none in `params`.
    pub fn along(&self, lm: &dyn CausalLm, params: &Params) -> Option<Tensor<1>> {
        let logits = self.logits.along(lm, params)?;
        Self { logits, targets: self.targets.clone() }.log_probs().tangent
    }

    /// Log-probabilities of the tokens, `[places]`, with their tangents if the model's weights have any. Not tracked.
    pub fn log_probs(&self) -> Dual<1> {
        self.find(None).0
    }

    /// [`log_probs`](Self::log_probs), and the sum of them times `weights`, or of their tangents if there are any: what is
    /// differentiated in leaves that are tracked.
    pub fn weighed(&self, weights: &[f64]) -> (Dual<1>, Objective) {
        let (log_probs, sum) = self.find(Some(weights));
        (log_probs, sum.expect("weights go back"))
    }

    fn find(&self, weights: Option<&[f64]>) -> (Dual<1>, Option<Objective>) {
        let (mut values, mut tangents) = (vec![], vec![]);
        let sum = self.logits.pass(|places, logits| {
            let (targets, weights) = (&self.targets[places.clone()], weights.map(|all| &all[places]));
            let (Dual { primal, tangent }, back) = if fused::is_here(&logits.primal) {
                fused::log_probs(logits, targets, weights)
            } else {
                composed::log_probs(&logits, self.logits.vocab(), targets, weights)
            };
            values.push(primal);
            tangents.extend(tangent);
            back
        });
        let column = |parts| Tensor::cat(parts, 0).reshape([self.logits.places()]);
        let tangents = (!tangents.is_empty()).then(|| column(tangents));
        (Dual::new(column(values), tangents), sum)
    }
}

/// Log-probabilities of the tokens at `places` given those before them, `[places.len()]`. Not tracked.
pub fn log_probs_at<R: AsRef<[u32]>>(
    lm: &dyn CausalLm,
    params: &Params,
    rows: &[R],
    places: &[Place],
) -> Dual<1> {
    Predictions::at(lm, params, rows, places).log_probs()
}
