//! Log-probabilities of tokens under logits `x = h W` that are never held as a whole: chunks of rows
//! pass one after the other, and on the way back their logits are computed again.
//!
//! Memory is that of a chunk, 4 matrices of [`CHUNK`] numbers at most, however many rows and tokens
//! there are. Products of the head: 4 instead of 3 for a plain pass there and back, 11 instead of 8 for
//! one with tangents; so logits that are few ([`KEPT`]) are better kept.

use std::{array::from_ref, ops::Range, sync::Arc};

use burn_backend::{TensorData, TensorMetadata};
use burn_flex::FlexTensor;

use super::{
    LogProb, LogProbTangent, Operation, Real, Rows,
    gemm::{Threads, View, multiply, product, zeros},
    linear::add,
    slice, widened,
};
use crate::MatmulPrecision;

/// As many logits may be kept from the way there to the way back: 128 MiB in f32.
pub(crate) const KEPT: usize = 1 << 25;
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

/// [`HeadLogProb`] and its tangents, `[2, rows]`, of h, h', W and, with N = 4, W'.
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
}

impl Operation<2> for HeadLogProb {
    const READS_OUTPUT: bool = true;

    fn forward(&self, inputs: &[FlexTensor; 2]) -> FlexTensor {
        typed!(&inputs[0], values(self, inputs))
    }

    fn backward(
        &self,
        needed: [bool; 2],
        inputs: &[FlexTensor; 2],
        y: Option<&FlexTensor>,
        g: &FlexTensor,
    ) -> [Option<FlexTensor>; 2] {
        typed!(g, gradients(self, needed, inputs, y.expect("the output was kept"), g))
    }

    fn widens(&self, input: usize) -> bool {
        input == 1
    }
}

impl<const N: usize> Operation<N> for HeadLogProbTangent {
    const READS_OUTPUT: bool = true;

    fn forward(&self, inputs: &[FlexTensor; N]) -> FlexTensor {
        typed!(&inputs[0], tangents(&self.0, inputs))
    }

    fn backward(
        &self,
        needed: [bool; N],
        inputs: &[FlexTensor; N],
        y: Option<&FlexTensor>,
        g: &FlexTensor,
    ) -> [Option<FlexTensor>; N] {
        typed!(g, tangent_gradients(&self.0, needed, inputs, y.expect("the output was kept"), g))
    }

    fn widens(&self, input: usize) -> bool {
        N == 3 && input == 2
    }
}

fn values<E: Real>(_: E, this: &HeadLogProb, [h, w]: &[FlexTensor; 2]) -> FlexTensor {
    let (h, w) = (h.to_contiguous(), widened::<E>(w));
    let mut y: Vec<E> = vec![];
    for (rows, kernel) in this.chunks() {
        let x = logits::<E>(&[(part(&h, &rows), View::of(&w))]);
        y.extend(slice::<E>(&Rows(kernel).forward(&[x])));
    }
    let n = y.len();
    FlexTensor::from_data(TensorData::new(y, [1, n]))
}

fn tangents<E: Real>(_: E, this: &HeadLogProb, inputs: &[FlexTensor]) -> FlexTensor {
    let (h, dh) = (inputs[0].to_contiguous(), inputs[1].to_contiguous());
    let (w, dw) = (&widened::<E>(&inputs[2]), inputs.get(3));
    let (mut y, mut dy): (Vec<E>, Vec<E>) = (vec![], vec![]);
    for (rows, kernel) in this.chunks() {
        let [x, dx] = both_logits::<E>([&h, &dh, w], dw, &rows);
        y.extend(slice::<E>(&Rows(kernel.clone()).forward(from_ref(&x))));
        dy.extend(slice::<E>(&Rows(LogProbTangent(kernel)).forward(&[x, dx])));
    }
    let n = y.len();
    y.extend(dy);
    FlexTensor::from_data(TensorData::new(y, [2, n]))
}

fn gradients<E: Real>(
    _: E,
    this: &HeadLogProb,
    needed: [bool; 2],
    [h, w]: &[FlexTensor; 2],
    y: &FlexTensor,
    g: &FlexTensor,
) -> [Option<FlexTensor>; 2] {
    let (h, g, w) = (h.to_contiguous(), g.to_contiguous(), &widened::<E>(w));
    let (w_view, mut to_h) = (View::<E>::of(w), OfRows::new(needed[0]));
    let mut to_w = OfWeight::<E>::new(needed[1], w);
    for (rows, kernel) in this.chunks() {
        let x = logits::<E>(&[(part(&h, &rows), w_view)]);
        let (y, g) = (column::<E>(y, 0, &rows), column::<E>(&g, 0, &rows));
        let to_x = Rows(kernel).backward([true], &[x], Some(&y), &g).map(contiguous);
        let to_x = View::<E>::of(&to_x[0]);
        to_h.extend(&[(to_x, w_view.t())]);
        to_w.add(part(&h, &rows), to_x);
    }
    [to_h.tensor(h.shape()[1]), to_w.tensor()]
}

fn tangent_gradients<E: Real, const N: usize>(
    _: E,
    this: &HeadLogProb,
    needed: [bool; N],
    inputs: &[FlexTensor; N],
    y: &FlexTensor,
    g: &FlexTensor,
) -> [Option<FlexTensor>; N] {
    let (h, dh, g) = (inputs[0].to_contiguous(), inputs[1].to_contiguous(), g.to_contiguous());
    let (w, dw) = (&widened::<E>(&inputs[2]), inputs.get(3));
    let (w_view, dw_view) = (View::<E>::of(w), dw.map(View::<E>::of));
    let [mut to_h, mut to_dh] = [0, 1].map(|input| OfRows::new(needed[input]));
    let mut to_w = OfWeight::<E>::new(needed[2], w);
    let mut to_dw = OfWeight::<E>::new(needed.get(3) == Some(&true), dw.unwrap_or(w));
    for (rows, kernel) in this.chunks() {
        let [x, dx] = both_logits::<E>([&h, &dh, w], dw, &rows);
        let [y, dy] = [0, 1].map(|row| column::<E>(y, row, &rows));
        let [g, dg] = [0, 1].map(|row| column::<E>(&g, row, &rows));
        let of_tangents = Rows(LogProbTangent(kernel.clone()));
        let [to_x, to_dx] = of_tangents.backward([true; 2], &[x.clone(), dx], Some(&dy), &dg).map(contiguous);
        // most often only the tangents go into what is differentiated
        let of_values = slice::<E>(&g).iter().any(|g| *g != E::zero());
        let of_values = of_values.then(|| Rows(kernel).backward([true], &[x], Some(&y), &g).map(contiguous));
        let to_x = match of_values {
            None => to_x,
            Some([more]) => {
                let mut sum = slice::<E>(&to_x).to_vec();
                add(&mut sum, slice(&more));
                FlexTensor::from_data(TensorData::new(sum, to_x.shape()))
            }
        };
        let (to_x, to_dx) = (View::<E>::of(&to_x), View::of(&to_dx));
        let of_dw = dw_view.map(|dw| (to_dx, dw.t()));
        to_h.extend(&[Some((to_x, w_view.t())), of_dw].into_iter().flatten().collect::<Vec<_>>());
        to_dh.extend(&[(to_dx, w_view.t())]);
        to_w.add(part(&h, &rows), to_x);
        to_w.add(part(&dh, &rows), to_dx);
        to_dw.add(part(&h, &rows), to_dx);
    }
    let width = h.shape()[1];
    let mut all = [to_h.tensor(width), to_dh.tensor(width), to_w.tensor(), to_dw.tensor()];
    std::array::from_fn(|input| all[input].take())
}

/// Some rows of a contiguous matrix.
fn part<'a, E: Real>(matrix: &'a FlexTensor, rows: &Range<usize>) -> View<'a, E> {
    let width = matrix.shape()[1];
    View::rows(&slice(matrix)[rows.start * width..rows.end * width], [rows.len(), width], width)
}

/// A row of a contiguous matrix, at some places, as a column.
fn column<E: Real>(matrix: &FlexTensor, row: usize, places: &Range<usize>) -> FlexTensor {
    let first = row * matrix.shape()[1];
    let values = &slice::<E>(matrix)[first + places.start..first + places.end];
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
