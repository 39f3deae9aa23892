//! Log-probabilities under logits `x = h W` that are never held as a whole; the formulas are those of
//! [`fused`](crate::fused).

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::{Composed, dot, linear::like, log_sum_exp_of};
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

    /// A row of `[1 or 2, rows]` as a column.
    fn column(&self, matrix: &Tensor<2>, row: usize) -> Tensor<2> {
        let part = matrix.clone().narrow(0, row, 1).narrow(1, self.rows.start, self.rows.len());
        part.reshape([self.rows.len(), 1])
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

    /// Log-probabilities as a row.
    fn log_probs(&self, x: &Tensor<2>) -> Tensor<2> {
        self.row(self.chosen(x) - log_sum_exp_of(x.clone(), self.vocab))
    }

    fn row(&self, column: Tensor<2>) -> Tensor<2> {
        column.reshape([1, self.rows.len()])
    }
}

impl Composed<2, 2> for HeadLogProb {
    const READS_OUTPUT: bool = true;

    fn value(&self, [h, w]: [Tensor<2>; 2]) -> Tensor<2> {
        let (vocab, w) = (w.dims()[1], widened(like(&h, &w)));
        let rows = self.parts(&w, vocab).map(|chunk| chunk.log_probs(&chunk.logits(&h)));
        Tensor::cat(rows.collect(), 1)
    }

    fn gradients(
        &self,
        needed: [bool; 2],
        [h, w]: [Tensor<2>; 2],
        y: Option<Tensor<2>>,
        g: Tensor<2>,
    ) -> [Option<Tensor<2>>; 2] {
        let (y, own) = (y.expect("the output was kept"), w);
        let w = widened(like(&h, &own));
        let (mut to_h, mut to_w) = (vec![], None);
        for chunk in self.parts(&w, own.dims()[1]) {
            let x = chunk.logits(&h);
            let g = chunk.column(&g, 0);
            let p = chunk.distribution(&x, chunk.column(&y, 0));
            let to_x = chunk.add_chosen(p.neg() * g.clone(), g);
            if needed[1] {
                add_product(&mut to_w, chunk.of(&h), &to_x, self.precision);
            }
            to_h.push(matmul(to_x, w.clone().transpose(), self.precision));
        }
        [Some(Tensor::cat(to_h, 0)), narrowed(to_w, &own)]
    }

    fn is_fused(&self) -> bool {
        self.precision == MatmulPrecision::F32
    }
}

impl<const N: usize> Composed<2, N> for HeadLogProbTangent {
    const READS_OUTPUT: bool = true;

    fn value(&self, inputs: [Tensor<2>; N]) -> Tensor<2> {
        let (h, dh, vocab) = (&inputs[0], &inputs[1], inputs[2].dims()[1]);
        let (w, dw) = (widened(like(h, &inputs[2])), inputs.get(3).cloned().map(widened));
        let (mut y, mut dy) = (vec![], vec![]);
        for chunk in self.0.parts(&w, vocab) {
            let x = chunk.logits(h);
            let own = chunk.log_probs(&x);
            let p = chunk.distribution(&x, own.clone().reshape([chunk.rows.len(), 1]));
            let dx = chunk.tangents(h, dh, dw.as_ref());
            dy.push(chunk.row(chunk.chosen(&dx) - dot(&p, &dx)));
            y.push(own);
        }
        Tensor::cat(vec![Tensor::cat(y, 1), Tensor::cat(dy, 1)], 0)
    }

    /// With the tangents' gradient g, `-g p (x' - <p, x'>)` in x and `g (e_t - p)` in x'; with the values', its
    /// own in x.
    fn gradients(
        &self,
        needed: [bool; N],
        inputs: [Tensor<2>; N],
        y: Option<Tensor<2>>,
        g: Tensor<2>,
    ) -> [Option<Tensor<2>>; N] {
        let (h, dh, own, precision) = (&inputs[0], &inputs[1], &inputs[2], self.0.precision);
        let (w, dw) = (widened(like(h, own)), inputs.get(3).cloned().map(widened));
        let y = y.expect("the output was kept");
        let (mut to_h, mut to_dh, mut to_w, mut to_dw) = (vec![], vec![], None, None);
        for chunk in self.0.parts(&w, own.dims()[1]) {
            let (x, dx) = (chunk.logits(h), chunk.tangents(h, dh, dw.as_ref()));
            let (of_values, g) = (chunk.column(&g, 0), chunk.column(&g, 1));
            let mean = chunk.chosen(&dx) - chunk.column(&y, 1);
            let p = chunk.distribution(&x, chunk.column(&y, 0));
            let to_x = p.clone() * ((dx - mean) * g.clone() + of_values.clone()).neg();
            let to_x = chunk.add_chosen(to_x, of_values);
            let to_dx = chunk.add_chosen(p.neg() * g.clone(), g);
            if needed[2] {
                add_product(&mut to_w, chunk.of(h), &to_x, precision);
                add_product(&mut to_w, chunk.of(dh), &to_dx, precision);
            }
            if needed.get(3) == Some(&true) {
                add_product(&mut to_dw, chunk.of(h), &to_dx, precision);
            }
            let back = |gradient: &Tensor<2>| matmul(gradient.clone(), w.clone().transpose(), precision);
            if needed[1] {
                to_dh.push(back(&to_dx));
            }
            to_h.push(match &dw {
                None => back(&to_x),
                Some(dw) => matmul_plus(to_dx, dw.clone().transpose(), back(&to_x), precision),
            });
        }
        let rows = |parts: Vec<Tensor<2>>| (!parts.is_empty()).then(|| Tensor::cat(parts, 0));
        let mut all = [rows(to_h), rows(to_dh), narrowed(to_w, own), narrowed(to_dw, own)];
        std::array::from_fn(|input| all[input].take())
    }

    fn is_fused(&self) -> bool {
        self.0.precision == MatmulPrecision::F32
    }
}

/// `sum += a^T b`.
fn add_product(sum: &mut Option<Tensor<2>>, a: Tensor<2>, b: &Tensor<2>, precision: MatmulPrecision) {
    let (a, b) = (a.transpose(), b.clone());
    *sum = Some(match sum.take() {
        None => matmul(a, b, precision),
        Some(sum) => matmul_plus(a, b, sum, precision),
    });
}
