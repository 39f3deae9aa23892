//! Predictions with logits in chunks, against operations of autodiff on all logits, in f64: values, tangents, and
//! gradients, for a weight in either order in memory and chunks that do and do not fit the rows. In f32, against that.

use std::ops::Range;

use super::*;
use crate::{Logits, Predictions, kl_divergence, log_probs};

const ROWS: usize = 7;
const WIDTH: usize = 5;
const VOCAB: usize = 11;

fn constant(shape: [usize; 2], key: u64, dtype: DType) -> Tensor<2> {
    let values = TensorData::new(random(shape[0] * shape[1], key), shape).convert_dtype(dtype);
    Tensor::from_data(values, (&Device::flex(), dtype))
}

fn leaf(shape: [usize; 2], key: u64, dtype: DType) -> Tensor<2> {
    constant(shape, key, dtype).autodiff().require_grad()
}

fn targets() -> Vec<u32> {
    (0..ROWS as u32).map(|row| row * 5 % VOCAB as u32).collect()
}

/// The token's number in each row.
fn chosen(x: &Tensor<2>) -> Tensor<1> {
    let targets: Vec<i64> = targets().into_iter().map(i64::from).collect();
    let index = Tensor::from_data(TensorData::new(targets, [ROWS, 1]), &x.device());
    x.clone().gather(1, index).reshape([ROWS])
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

    fn head_shape(self) -> [usize; 2] {
        if self.is_transposed { [VOCAB, WIDTH] } else { [WIDTH, VOCAB] }
    }

    /// `[WIDTH, VOCAB]`.
    fn turned(self, w: &Tensor<2>) -> Tensor<2> {
        if self.is_transposed { w.clone().transpose() } else { w.clone() }
    }

    fn head(self, dtype: DType) -> Tensor<2> {
        let shape = self.head_shape();
        if self.is_trained { leaf(shape, 3, dtype) } else { constant(shape, 3, dtype).autodiff() }
    }

    fn logits(self, hidden: Dual<2>, head: Dual<2>, chunk: usize) -> Logits {
        Logits::new(hidden, head, [self.is_trained, self.is_transposed], chunk, MatmulPrecision::F32)
    }

    /// Log-probabilities, their tangents, and gradients in h, h' and W of the weighed sum, by chunks of so many rows or
    /// as a whole.
    fn found(self, chunk: Option<usize>, dtype: DType) -> Vec<Option<Vec<f64>>> {
        let [h, dh] = [leaf([ROWS, WIDTH], 1, dtype), leaf([ROWS, WIDTH], 2, dtype)];
        let (w, dw) = (self.head(dtype), constant(self.head_shape(), 4, dtype).autodiff());
        let hidden = Dual::new(h.clone(), (self.tangents != Tangents::None).then(|| dh.clone()));
        let head = Dual::new(self.turned(&w), (self.tangents == Tangents::OfBoth).then(|| self.turned(&dw)));
        let weights = random(ROWS, 5);
        let (log_probs, tape) = if let Some(rows) = chunk {
            let predictions = Predictions::of(self.logits(hidden, head, rows), targets());
            let (log_probs, sum) = predictions.weighed(&weights);
            assert_eq!(host(log_probs.primal.clone()), host(predictions.log_probs().primal));
            (log_probs, sum.backward())
        } else {
            let logits = hidden.linear(head, None, MatmulPrecision::F32);
            let primal = activation::log_softmax(logits.primal, 1);
            let tangent = logits.tangent.map(|dx| {
                let mean = (primal.clone().exp() * dx.clone()).sum_dim(1).reshape([ROWS]);
                chosen(&dx) - mean
            });
            let log_probs = Dual::new(chosen(&primal), tangent);
            let weights = constant([1, ROWS], 5, dtype).reshape([ROWS]).autodiff();
            let of = log_probs.tangent.clone().unwrap_or_else(|| log_probs.primal.clone());
            let tape = (of * weights).sum().backward();
            (Dual::new(log_probs.primal.inner(), log_probs.tangent.map(Tensor::inner)), tape)
        };
        let mut found = vec![Some(host(log_probs.primal)), log_probs.tangent.map(host)];
        found.extend([h, dh, w].map(|leaf| leaf.grad(&tape).map(host)));
        found
    }

    /// A sum of what logits say, and its gradients in h and W, by chunks of so many rows or as a whole.
    fn summed(self, chunk: Option<usize>) -> Vec<Option<Vec<f64>>> {
        let (h, w) = (leaf([ROWS, WIDTH], 1, DType::F64), self.head(DType::F64));
        let logits = self.logits(h.clone().into(), self.turned(&w).into(), chunk.unwrap_or(ROWS));
        let others = |places: Range<usize>| {
            constant([ROWS, VOCAB], 6, DType::F64).narrow(0, places.start, places.len()).autodiff()
        };
        let mut total = 0.0;
        let mut number = |places: Range<usize>, x: Tensor<2>| {
            let divergences = kl_divergence(&x, &others(places.clone()));
            let sum = (log_probs(&x, &targets()[places]) * divergences).sum();
            total += sum.clone().inner().into_scalar::<f64>();
            sum
        };
        let tape = match chunk {
            Some(_) => logits.sum(number).backward(),
            None => number(0..ROWS, h.clone().matmul(self.turned(&w))).backward(),
        };
        let (ours, whole) = (host(logits.of(2..5)), host(h.clone().matmul(self.turned(&w)).inner()));
        assert_close(&ours, &whole[2 * VOCAB..5 * VOCAB], 1e-13, "logits of some places");
        let mut found = vec![Some(vec![total])];
        found.extend([h, w].map(|leaf| leaf.grad(&tape).map(host)));
        found
    }
}

/// The same is there, up to a tolerance.
fn assert_same(ours: &[Option<Vec<f64>>], expected: &[Option<Vec<f64>>], tolerance: f64, what: &str) {
    for (which, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        match (ours, expected) {
            (None, None) => (),
            (Some(ours), Some(expected)) => {
                assert_close(ours, expected, tolerance, &format!("{what}, result {which}"));
            }
            _ => panic!("{what}: result {which} is in one alone"),
        }
    }
}

#[test]
fn predictions_in_chunks_are_those_of_all_logits() {
    for case in Case::all() {
        let whole = case.found(None, DType::F64);
        assert_eq!(
            (whole[3].is_some(), whole[4].is_some()),
            (case.tangents != Tangents::None, case.is_trained)
        );
        for chunk in [1, 3, 7, 100] {
            let ours = |dtype| case.found(Some(chunk), dtype);
            let what = format!("chunks of {chunk}, {case:?}");
            assert_same(&ours(DType::F64), &whole, 1e-13, &what);
            assert_same(&ours(DType::F32), &whole, 2e-5, &format!("f32, {what}"));
            let composed = compare::as_elsewhere(|| ours(DType::F64));
            assert_same(&composed, &whole, 1e-13, &format!("composed, {what}"));
        }
    }
}

#[test]
fn sums_over_chunks_are_those_of_all_logits() {
    for case in Case::all().filter(|case| case.tangents == Tangents::None) {
        let whole = case.summed(None);
        assert_eq!(whole[2].is_some(), case.is_trained);
        for chunk in [1, 3, 7] {
            let what = format!("chunks of {chunk}, {case:?}");
            assert_same(&case.summed(Some(chunk)), &whole, 1e-13, &what);
            let composed = compare::as_elsewhere(|| case.summed(Some(chunk)));
            assert_same(&composed, &whole, 1e-13, &format!("composed, {what}"));
        }
    }
}
