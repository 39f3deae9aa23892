//! Log-probabilities of tokens under logits `x = h W` that are never held as a whole: chunks of rows pass one after
//! the other. What comes back to them is known before, so a chunk's gradients are found while its logits are there.
//!
//! Memory is that of a chunk, 4 matrices of [`CHUNK`] numbers at most, however many rows and tokens there are.

use std::{array::from_ref, ops::Range, sync::Arc};

use burn_backend::{TensorData, TensorMetadata};
use burn_flex::FlexTensor;

use super::{
    LogProb, LogProbTangent, Operation, Real, Rows,
    gemm::{Threads, View, multiply, product, zeros},
    slice, widened,
};
use crate::{
    MatmulPrecision,
    composed::{Back, Found},
};

/// Logits of a chunk on the CPU, unless a row alone has more.
pub(crate) const CHUNK: usize = 1 << 23;

/// Log-probabilities `[1, rows]` of tokens, of `h [rows, width]` and `W [width, vocab]` in any order in
/// memory.
#[derive(Clone, Debug)]
pub(crate) struct HeadLogProb {
    /// One for each row.
    pub(crate) targets: Arc<[u32]>,
    /// Rows of a chunk.
    pub(crate) rows: usize,
    /// Of the products; only f32 is fused.
    pub(crate) precision: MatmulPrecision,
}

/// [`HeadLogProb`] and its tangents, `[2, rows]`, of h, h', W and, with N = 4, W', which is a constant. Gradients are those
/// of the tangents.
#[derive(Clone, Debug)]
pub(crate) struct HeadLogProbTangent(pub(crate) HeadLogProb);

impl HeadLogProb {
    /// The rows of every chunk.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let n = self.targets.len();
        (0..n).step_by(self.rows).map(move |first| first..(first + self.rows).min(n))
    }

    /// The same, and what is computed of their logits.
    fn chunks(&self) -> impl Iterator<Item = (Range<usize>, LogProb)> {
        self.ranges().map(|rows| (rows.clone(), LogProb { targets: self.targets[rows].into() }))
    }

    /// [`AtOnce::fused`](crate::composed::AtOnce::fused).
    pub(crate) fn on_cpu(
        &self,
        inputs: &[FlexTensor; 2],
        back: Option<Back<FlexTensor, 2>>,
    ) -> Found<FlexTensor, 2> {
        typed!(&inputs[0], values(self, inputs, back))
    }
}

impl HeadLogProbTangent {
    /// [`AtOnce::fused`](crate::composed::AtOnce::fused).
    pub(crate) fn on_cpu<const N: usize>(
        &self,
        inputs: &[FlexTensor; N],
        back: Option<Back<FlexTensor, N>>,
    ) -> Found<FlexTensor, N> {
        typed!(&inputs[0], tangents(&self.0, inputs, back))
    }
}

fn values<E: Real>(
    _: E,
    this: &HeadLogProb,
    [h, w]: &[FlexTensor; 2],
    back: Option<Back<FlexTensor, 2>>,
) -> Found<FlexTensor, 2> {
    let (h, w) = (h.to_contiguous(), &widened::<E>(w));
    let (w_view, needed) = (View::<E>::of(w), Back::needed(back.as_ref()));
    let (mut to_h, mut to_w) = (OfRows::new(needed[0]), OfWeight::<E>::new(needed[1], w));
    let mut y: Vec<E> = vec![];
    for (rows, kernel) in this.chunks() {
        let x = logits::<E>(&[(part(&h, &rows), w_view)]);
        let own = Rows(kernel.clone()).forward(from_ref(&x));
        y.extend(slice::<E>(&own));
        let Some(back) = &back else { continue };
        let g = column::<E>(&back.gradient, &rows);
        let to_x = Rows(kernel).backward([true], &[x], Some(&own), &g).map(contiguous);
        let to_x = View::<E>::of(&to_x[0]);
        to_h.extend(&[(to_x, w_view.t())]);
        to_w.add(part(&h, &rows), to_x);
    }
    (row(y), [to_h.tensor(h.shape()[1]), to_w.tensor()])
}

fn tangents<E: Real, const N: usize>(
    _: E,
    this: &HeadLogProb,
    inputs: &[FlexTensor; N],
    back: Option<Back<FlexTensor, N>>,
) -> Found<FlexTensor, N> {
    let (h, dh) = (inputs[0].to_contiguous(), inputs[1].to_contiguous());
    let (w, dw) = (&widened::<E>(&inputs[2]), inputs.get(3));
    let (w_view, dw_view) = (View::<E>::of(w), dw.map(View::<E>::of));
    let needed = Back::needed(back.as_ref());
    let [mut to_h, mut to_dh] = [0, 1].map(|input| OfRows::new(needed[input]));
    let mut to_w = OfWeight::<E>::new(needed[2], w);
    let (mut y, mut dy): (Vec<E>, Vec<E>) = (vec![], vec![]);
    for (rows, kernel) in this.chunks() {
        let both = both_logits::<E>([&h, &dh, w], dw, &rows);
        y.extend(slice::<E>(&Rows(kernel.clone()).forward(from_ref(&both[0]))));
        let kernel = Rows(LogProbTangent(kernel));
        let own = kernel.forward(&both);
        dy.extend(slice::<E>(&own));
        let Some(back) = &back else { continue };
        let g = column::<E>(&back.gradient, &rows);
        let [to_x, to_dx] = kernel.backward([true; 2], &both, Some(&own), &g).map(contiguous);
        let (to_x, to_dx) = (View::<E>::of(&to_x), View::of(&to_dx));
        let of_dw = dw_view.map(|dw| (to_dx, dw.t()));
        to_h.extend(&[Some((to_x, w_view.t())), of_dw].into_iter().flatten().collect::<Vec<_>>());
        to_dh.extend(&[(to_dx, w_view.t())]);
        to_w.add(part(&h, &rows), to_x);
        to_w.add(part(&dh, &rows), to_dx);
    }
    y.extend(dy);
    let n = y.len() / 2;
    let mut gradients = [to_h.tensor(h.shape()[1]), to_dh.tensor(h.shape()[1]), to_w.tensor(), None];
    let output = FlexTensor::from_data(TensorData::new(y, [2, n]));
    (output, std::array::from_fn(|input| gradients[input].take()))
}

fn row<E: Real>(numbers: Vec<E>) -> FlexTensor {
    let n = numbers.len();
    FlexTensor::from_data(TensorData::new(numbers, [1, n]))
}

/// Some rows of a contiguous matrix.
fn part<'a, E: Real>(matrix: &'a FlexTensor, rows: &Range<usize>) -> View<'a, E> {
    let width = matrix.shape()[1];
    View::rows(&slice(matrix)[rows.start * width..rows.end * width], [rows.len(), width], width)
}

/// Some places of a row, as a column.
fn column<E: Real>(row: &FlexTensor, places: &Range<usize>) -> FlexTensor {
    let values = &slice::<E>(row)[places.clone()];
    FlexTensor::from_data(TensorData::new(values.to_vec(), [places.len(), 1]))
}

/// The sum of products of pairs.
fn products<E: Real>(pairs: &[(View<E>, View<E>)]) -> Vec<E> {
    let (a, b) = pairs[0];
    let mut sum = product(a, b);
    for (a, b) in &pairs[1..] {
        multiply(&mut sum, b.shape[1], true, E::one(), *a, *b, Threads::All);
    }
    sum
}

fn logits<E: Real>(pairs: &[(View<E>, View<E>)]) -> FlexTensor {
    let shape = [pairs[0].0.shape[0], pairs[0].1.shape[1]];
    FlexTensor::from_data(TensorData::new(products(pairs), shape))
}

/// Logits of some rows of h, h', W, W', and their tangents `h' W + h W'`.
fn both_logits<E: Real>(
    [h, dh, w]: [&FlexTensor; 3],
    dw: Option<&FlexTensor>,
    rows: &Range<usize>,
) -> [FlexTensor; 2] {
    let (h, w) = (part::<E>(h, rows), View::of(w));
    let tangents: Vec<_> =
        std::iter::once((part(dh, rows), w)).chain(dw.map(|dw| (h, View::of(dw)))).collect();
    [logits(&[(h, w)]), logits(&tangents)]
}

fn contiguous(gradient: Option<FlexTensor>) -> FlexTensor {
    gradient.expect("it was needed").to_contiguous()
}

/// The gradient of a matrix `[rows, width]`, chunk after chunk, if it is needed.
struct OfRows<E>(Option<Vec<E>>);

impl<E: Real> OfRows<E> {
    fn new(needed: bool) -> Self {
        Self(needed.then(Vec::new))
    }

    fn extend(&mut self, pairs: &[(View<E>, View<E>)]) {
        if let Some(rows) = &mut self.0 {
            rows.extend(products(pairs));
        }
    }

    fn tensor(self, width: usize) -> Option<FlexTensor> {
        self.0.map(|rows| {
            let n = rows.len() / width;
            FlexTensor::from_data(TensorData::new(rows, [n, width]))
        })
    }
}

/// The gradient of a weight `[width, vocab]`, the sum of all chunks', in the weight's order in memory.
struct OfWeight<E> {
    sum: Option<Vec<E>>,
    shape: [usize; 2],
    transposed: bool,
}

impl<E: Real> OfWeight<E> {
    fn new(needed: bool, weight: &FlexTensor) -> Self {
        let View { shape, strides, .. } = View::<E>::of(weight);
        let sum = needed.then(|| zeros(shape[0] * shape[1]));
        Self { sum, shape, transposed: strides[0] == 1 && shape[0] > 1 }
    }

    /// Adds `h^T g`.
    fn add(&mut self, h: View<E>, g: View<E>) {
        let Some(sum) = &mut self.sum else { return };
        let (a, b) = if self.transposed { (g.t(), h) } else { (h.t(), g) };
        multiply(sum, b.shape[1], true, E::one(), a, b, Threads::All);
    }

    fn tensor(self) -> Option<FlexTensor> {
        let [width, vocab] = self.shape;
        self.sum.map(|sum| {
            if self.transposed {
                FlexTensor::from_data(TensorData::new(sum, [vocab, width])).transpose(0, 1)
            } else {
                FlexTensor::from_data(TensorData::new(sum, [width, vocab]))
            }
        })
    }
}
