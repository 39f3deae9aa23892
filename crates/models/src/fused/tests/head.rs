//! Predictions with logits in chunks, against those with all logits as a whole, in f64: values, tangents, and gradients,
//! for a weight in either order in memory and chunks that do and do not fit the rows.

use super::*;
use crate::Predictions;

const ROWS: usize = 7;
const WIDTH: usize = 5;
const VOCAB: usize = 11;

fn constant(shape: [usize; 2], key: u64) -> Tensor<2> {
    let values = TensorData::new(random(shape[0] * shape[1], key), shape);
    Tensor::from_data(values, (&Device::flex(), DType::F64))
}

fn leaf(shape: [usize; 2], key: u64) -> Tensor<2> {
    constant(shape, key).autodiff().require_grad()
}

/// What has tangents.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tangents {
    None,
    OfHidden,
    OfBoth,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    tangents: Tangents,
    is_transposed: bool,
    is_trained: bool,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        [Tangents::None, Tangents::OfHidden, Tangents::OfBoth].into_iter().flat_map(|tangents| {
            let of =
                move |[is_transposed, is_trained]: [bool; 2]| Self { tangents, is_transposed, is_trained };
            [[false, false], [false, true], [true, false], [true, true]].map(of)
        })
    }

    /// Log-probabilities, their tangents, and gradients in h, h' and W of the weighed sum, by chunks of so many rows or
    /// as a whole.
    fn found(self, chunk: Option<usize>) -> Vec<Option<Vec<f64>>> {
        let of_head = if self.is_transposed { [VOCAB, WIDTH] } else { [WIDTH, VOCAB] };
        let [h, dh] = [leaf([ROWS, WIDTH], 1), leaf([ROWS, WIDTH], 2)];
        let w = if self.is_trained { leaf(of_head, 3) } else { constant(of_head, 3).autodiff() };
        let dw = constant(of_head, 4).autodiff();
        let turned = |w: &Tensor<2>| if self.is_transposed { w.clone().transpose() } else { w.clone() };
        let hidden = Dual::new(h.clone(), (self.tangents != Tangents::None).then(|| dh.clone()));
        let head = Dual::new(turned(&w), (self.tangents == Tangents::OfBoth).then(|| turned(&dw)));
        let targets: Vec<u32> = (0..ROWS as u32).map(|row| row * 5 % VOCAB as u32).collect();
        let (targets, precision) = (targets.as_slice().into(), MatmulPrecision::F32);
        let weights = random(ROWS, 5);
        let (log_probs, tape) = if let Some(rows) = chunk {
            let kernel = HeadLogProb { targets, rows, precision };
            let predictions = Predictions::of(hidden, head, self.is_trained, kernel);
            let (log_probs, sum) = predictions.weighed(&weights);
            assert_eq!(host(log_probs.primal.clone()), host(predictions.log_probs().primal));
            (log_probs, sum.backward())
        } else {
            let kernel = LogProb { targets };
            let logits = hidden.linear(head, None, precision);
            let log_probs = logits.fused(kernel.clone(), LogProbTangent(kernel)).unwrap().reshape([ROWS]);
            let weights = constant([1, ROWS], 5).reshape([ROWS]).autodiff();
            let of = log_probs.tangent.clone().unwrap_or_else(|| log_probs.primal.clone());
            let tape = (of * weights).sum().backward();
            (Dual::new(log_probs.primal.inner(), log_probs.tangent.map(Tensor::inner)), tape)
        };
        let mut found = vec![Some(host(log_probs.primal)), log_probs.tangent.map(host)];
        found.extend([h, dh, w].map(|leaf| leaf.grad(&tape).map(host)));
        found
    }
}

#[test]
fn predictions_in_chunks_are_those_of_all_logits() {
    for case in Case::all() {
        let whole = case.found(None);
        assert_eq!(
            (whole[3].is_some(), whole[4].is_some()),
            (case.tangents != Tangents::None, case.is_trained)
        );
        for chunk in [1, 3, 7, 100] {
            let ours = || case.found(Some(chunk));
            for (form, ours) in [("fused", ours()), ("composed", compare::as_elsewhere(ours))] {
                for (which, (ours, whole)) in ours.iter().zip(&whole).enumerate() {
                    let what = format!("{form}, chunks of {chunk}, {case:?}, result {which}");
                    match (ours, whole) {
                        (None, None) => (),
                        (Some(ours), Some(whole)) => assert_close(ours, whole, 1e-13, &what),
                        _ => panic!("{what}: one of them is missing"),
                    }
                }
            }
        }
    }
}
