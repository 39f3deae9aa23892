//! Log-probabilities of tokens, and the way back from them. Their memory is bounded, however many places and tokens there
//! are: logits are never held as a whole, nor computed twice.

use burn::tensor::{Tensor, TensorData};

use crate::{
    CausalLm, Dual, Params, Place,
    composed::{self, Back, Objective, find},
    device::backend_of,
    fused::{self, HeadLogProb, HeadLogProbTangent},
    hidden_at,
};

/// What a model says of the tokens at some places of rows.
pub struct Predictions {
    /// Final hidden states that predict them, `[places, hidden]`,
    hidden: Dual<2>,
    /// and the head, `[hidden, vocab]`.
    head: Dual<2>,
    /// Whether the head's gradient is needed.
    is_trained: bool,
    kernel: HeadLogProb,
}

impl Predictions {
    /// Predictions of the tokens at `places` given those before them.
    pub fn at<R: AsRef<[u32]>>(lm: &dyn CausalLm, params: &Params, rows: &[R], places: &[Place]) -> Self {
        let targets: Vec<u32> = places.iter().map(|place| rows[place.row].as_ref()[place.column]).collect();
        let is_fused = backend_of(&params.device().without_autodiff()).fuses();
        let chunk = if is_fused { fused::CHUNK } else { composed::CHUNK };
        let most = (chunk / lm.vocab_size()).max(1);
        // devices get chunks of one size: a few rows take one as long as many
        let chunks = places.len().div_ceil(most).max(1);
        let of_chunk = if is_fused { most } else { places.len().div_ceil(chunks).max(1) };
        Self {
            hidden: hidden_at(lm, params, rows, places),
            head: lm.head().weight(params),
            is_trained: lm.layout().adapters().is_none(),
            kernel: HeadLogProb { targets: targets.into(), rows: of_chunk, precision: lm.precision() },
        }
    }

    #[cfg(test)]
    pub(crate) fn of(hidden: Dual<2>, head: Dual<2>, is_trained: bool, kernel: HeadLogProb) -> Self {
        Self { hidden, head, is_trained, kernel }
    }

    /// Log-probabilities of the tokens, `[places]`, with their tangents if the model's weights have any. Not tracked.
    pub fn log_probs(&self) -> Dual<1> {
        self.find(None).0
    }

    /// [`log_probs`](Self::log_probs), and the sum of them times `weights`, or of their tangents if there are any: what is
    /// differentiated in leaves that are tracked.
    pub fn weighed(&self, weights: &[f64]) -> (Dual<1>, Objective) {
        let dtype = self.hidden.primal.dtype();
        let data = TensorData::new(weights.to_vec(), [1, weights.len()]).convert_dtype(dtype);
        let device = self.hidden.primal.device().without_autodiff();
        let (log_probs, sum) = self.find(Some(Tensor::from_data(data, (&device, dtype))));
        (log_probs, sum.expect("weights come back"))
    }

    fn find(&self, weights: Option<Tensor<2>>) -> (Dual<1>, Option<Objective>) {
        let (h, w, is_trained) = (&self.hidden.primal, &self.head.primal, self.is_trained);
        if self.hidden.tangent.is_none() && self.head.tangent.is_none() {
            let back = weights.map(|gradient| Back { gradient, needed: [true, is_trained] });
            let (log_probs, sum) = find(&self.kernel, [h, w], back);
            return (row(log_probs, 0).into(), sum);
        }
        let (dh, kernel) = (&self.hidden.tangent_or_zero(), HeadLogProbTangent(self.kernel.clone()));
        let (both, sum) = match &self.head.tangent {
            None => {
                let back = weights.map(|gradient| Back { gradient, needed: [true, true, is_trained] });
                find(&kernel, [h, dh, w], back)
            }
            // tangents of leaves are constants
            Some(dw) => {
                let back = weights.map(|gradient| Back { gradient, needed: [true, true, is_trained, false] });
                find(&kernel, [h, dh, w, dw], back)
            }
        };
        (Dual::new(row(both.clone(), 0), Some(row(both, 1))), sum)
    }
}

/// A row of a matrix.
fn row(matrix: Tensor<2>, row: usize) -> Tensor<1> {
    let columns = matrix.dims()[1];
    matrix.narrow(0, row, 1).reshape([columns])
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
