//! Log-probabilities under logits `x = h W` that are never held as a whole; the formulas are those of
//! [`fused`](crate::fused).

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::{AtOnce, Back, Found, dot, linear::like, log_sum_exp_of};
use crate::{
    MatmulPrecision,
    fused::{HeadLogProb, HeadLogProbTangent},
    matmul::{matmul, matmul_plus},
};

/// Logits of a chunk on a device, unless a row alone has more: 512 MiB in f32.
pub(crate) const CHUNK: usize = 1 << 27;

/// Columns of logits are a multiple of it: devices read several numbers at a time, and write products whose rows begin
/// elsewhere at a fraction of their speed.
const COLUMNS: usize = 8;

/// `W` with columns of zeros behind its own, so many that logits have a multiple of [`COLUMNS`]. Nothing comes from
/// them: no target is among them, sums of `exp(x)` leave them out, and their weights are zero.
fn widened(w: Tensor<2>) -> Tensor<2> {
    let [width, vocab] = w.dims();
    if vocab.is_multiple_of(COLUMNS) {
        return w;
    }
    let zeros = Tensor::zeros([vocab.next_multiple_of(COLUMNS) - vocab, width], (&w.device(), w.dtype()));
    // a head lies by columns
    Tensor::cat(vec![w.transpose(), zeros], 0).transpose()
}

/// A gradient in the shape of the weight itself.
fn narrowed(to_w: Option<Tensor<2>>, w: &Tensor<2>) -> Option<Tensor<2>> {
    Some(to_w?.narrow(1, 0, w.dims()[1]))
}

/// Some rows of a head's inputs, on the way there or back.
struct Chunk<'a> {
    rows: Range<usize>,
    targets: Tensor<2, Int>,
    /// Columns of the weight that are tokens' own.
    vocab: usize,
    /// [`widened`].
    weight: &'a Tensor<2>,
    precision: MatmulPrecision,
}

impl HeadLogProb {
    /// The rows of every chunk of composed operations.
    fn parts<'a>(&'a self, weight: &'a Tensor<2>, vocab: usize) -> impl Iterator<Item = Chunk<'a>> {
        let device = weight.device();
        self.ranges().map(move |rows| {
            let targets: Vec<i64> = self.targets[rows.clone()].iter().map(|&token| token.into()).collect();
            let data = TensorData::new(targets, [rows.len(), 1]);
            let targets = Tensor::from_data(data, &device);
            Chunk { rows, targets, vocab, weight, precision: self.precision }
        })
    }
}

impl Chunk<'_> {
    fn of(&self, matrix: &Tensor<2>) -> Tensor<2> {
        matrix.clone().narrow(0, self.rows.start, self.rows.len())
    }

    /// Its part of a row, as a column.
    fn column(&self, row: &Tensor<2>) -> Tensor<2> {
        row.clone().narrow(1, self.rows.start, self.rows.len()).reshape([self.rows.len(), 1])
    }

    fn product(&self, a: Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
        matmul(a, b.clone(), self.precision)
    }

    fn logits(&self, h: &Tensor<2>) -> Tensor<2> {
        self.product(self.of(h), self.weight)
    }

    /// `h' W + h W'`.
    fn tangents(&self, h: &Tensor<2>, dh: &Tensor<2>, dw: Option<&Tensor<2>>) -> Tensor<2> {
        let first = self.product(self.of(dh), self.weight);
        match dw {
            None => first,
            Some(dw) => matmul_plus(self.of(h), dw.clone(), first, self.precision),
        }
    }

    /// `x_t`.
    fn chosen(&self, x: &Tensor<2>) -> Tensor<2> {
        x.clone().gather(1, self.targets.clone())
    }

    /// `x + g e_t`.
    fn add_chosen(&self, x: Tensor<2>, g: Tensor<2>) -> Tensor<2> {
        x.scatter(1, self.targets.clone(), g, IndexingUpdateOp::Add)
    }

    /// p of logits and their log-probabilities y.
    fn distribution(&self, x: &Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let log_sum = self.chosen(x) - y;
        (x.clone() - log_sum).exp()
    }

    /// Log-probabilities as a column.
    fn log_probs(&self, x: &Tensor<2>) -> Tensor<2> {
        self.chosen(x) - log_sum_exp_of(x.clone(), self.vocab)
    }
}

impl AtOnce<2> for HeadLogProb {
    fn fused(&self, inputs: &[FlexTensor; 2], back: Option<Back<FlexTensor, 2>>) -> Found<FlexTensor, 2> {
        self.on_cpu(inputs, back)
    }

    fn composed(&self, [h, own]: [Tensor<2>; 2], back: Option<Back<Tensor<2>, 2>>) -> Found<Tensor<2>, 2> {
        let w = widened(like(&h, &own));
        let (mut y, mut to_h, mut to_w) = (vec![], vec![], None);
        for chunk in self.parts(&w, own.dims()[1]) {
            let x = chunk.logits(&h);
            let log_probs = chunk.log_probs(&x);
            y.push(log_probs.clone());
            let Some(Back { gradient, needed }) = &back else { continue };
            let g = chunk.column(gradient);
            let p = chunk.distribution(&x, log_probs);
            let to_x = chunk.add_chosen(p.neg() * g.clone(), g);
            if needed[1] {
                add_product(&mut to_w, chunk.of(&h), &to_x, self.precision);
            }
            to_h.push(matmul(to_x, w.clone().transpose(), self.precision));
        }
        (row(y), [rows(to_h), narrowed(to_w, &own)])
    }

    fn widens(&self, input: usize) -> bool {
        input == 1
    }

    fn precision(&self) -> MatmulPrecision {
        self.precision
    }
}

impl<const N: usize> AtOnce<N> for HeadLogProbTangent {
    fn fused(&self, inputs: &[FlexTensor; N], back: Option<Back<FlexTensor, N>>) -> Found<FlexTensor, N> {
        self.on_cpu(inputs, back)
    }

    /// With g, what comes back to a tangent, `-g p (x' - <p, x'>)` goes to x and `g (e_t - p)` to x'.
    fn composed(&self, inputs: [Tensor<2>; N], back: Option<Back<Tensor<2>, N>>) -> Found<Tensor<2>, N> {
        let (h, dh, own, precision) = (&inputs[0], &inputs[1], &inputs[2], self.0.precision);
        let (w, dw) = (widened(like(h, own)), inputs.get(3).cloned().map(widened));
        let (mut y, mut dy) = (vec![], vec![]);
        let (mut to_h, mut to_dh, mut to_w) = (vec![], vec![], None);
        for chunk in self.0.parts(&w, own.dims()[1]) {
            let (x, dx) = (chunk.logits(h), chunk.tangents(h, dh, dw.as_ref()));
            let log_probs = chunk.log_probs(&x);
            let p = chunk.distribution(&x, log_probs.clone());
            y.push(log_probs);
            let mean = dot(&p, &dx);
            dy.push(chunk.chosen(&dx) - mean.clone());
            let Some(Back { gradient, needed }) = &back else { continue };
            let g = chunk.column(gradient);
            let to_x = p.clone() * ((dx - mean) * g.clone()).neg();
            let to_dx = chunk.add_chosen(p.neg() * g.clone(), g);
            if needed[2] {
                add_product(&mut to_w, chunk.of(h), &to_x, precision);
                add_product(&mut to_w, chunk.of(dh), &to_dx, precision);
            }
            let back = |gradient: Tensor<2>| matmul(gradient, w.clone().transpose(), precision);
            to_dh.push(back(to_dx.clone()));
            to_h.push(match &dw {
                None => back(to_x),
                Some(dw) => matmul_plus(to_dx, dw.clone().transpose(), back(to_x), precision),
            });
        }
        let mut gradients = [rows(to_h), rows(to_dh), narrowed(to_w, own), None];
        let output = Tensor::cat(vec![row(y), row(dy)], 0);
        (output, std::array::from_fn(|input| gradients[input].take()))
    }

    fn widens(&self, input: usize) -> bool {
        N == 3 && input == 2
    }

    fn precision(&self) -> MatmulPrecision {
        self.0.precision
    }
}

/// Chunks of rows, if there are any.
fn rows(parts: Vec<Tensor<2>>) -> Option<Tensor<2>> {
    (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
}

/// Columns one below the other, as a row.
fn row(columns: Vec<Tensor<2>>) -> Tensor<2> {
    let column = Tensor::cat(columns, 0);
    let n = column.dims()[0];
    column.reshape([1, n])
}

/// `sum += a^T b`.
fn add_product(sum: &mut Option<Tensor<2>>, a: Tensor<2>, b: &Tensor<2>, precision: MatmulPrecision) {
    let (a, b) = (a.transpose(), b.clone());
    *sum = Some(match sum.take() {
        None => matmul(a, b, precision),
        Some(sum) => matmul_plus(a, b, sum, precision),
    });
}
