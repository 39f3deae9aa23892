//! Causal attention of whole sequences, `o = softmax(c q k^T) v` with `c = 1 / sqrt(dim)`, alone and with its
//! tangent. The weights of one head of one sequence are all that is ever held: the way back computes
//! them again.

use std::array::from_fn;

use burn_backend::{TensorData, TensorMetadata};
use burn_flex::FlexTensor;

use super::{
    Operation, Real,
    fill::fill,
    gemm::{Threads, View, multiply},
    real::{largest, map, sum},
    slice,
};
use crate::MatmulPrecision;

/// Attention of `q [batch, seq, query * dim]` and `k`, `v` `[batch, seq, kv * dim]`, three inputs or
/// one that holds them side by side; `[batch, seq, query * dim]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads, each serving `query / kv` query heads in a row.
    pub(crate) kv: usize,
    /// Width of a head.
    pub(crate) dim: usize,
    /// Of the products; only f32 is fused.
    pub(crate) precision: MatmulPrecision,
}

/// [`Attention`] and its tangent, of its inputs and then their tangents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionDual(pub(crate) Attention);

impl<const N: usize> Operation<N> for Attention {
    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; 1] {
        typed!(&inputs[0], value(*self, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&[FlexTensor; 1]>,
        gradients: [&FlexTensor; 1],
    ) -> [Option<FlexTensor>; N] {
        typed!(gradients[0], value_gradients(*self, inputs, gradients)).map(Some)
    }
}

impl<const N: usize> Operation<N, 2> for AttentionDual {
    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; 2] {
        typed!(&inputs[0], dual(self.0, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        _: Option<&[FlexTensor; 2]>,
        gradients: [&FlexTensor; 2],
    ) -> [Option<FlexTensor>; N] {
        typed!(gradients[0], dual_gradients(self.0, inputs, gradients)).map(Some)
    }
}

/// One sequence of every input: its rows, and how wide they are.
#[derive(Clone, Copy)]
struct Sequence<'a, E, const N: usize> {
    inputs: [&'a [E]; N],
    widths: [usize; N],
    seq: usize,
}

/// Queries, keys or values.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

impl Attention {
    fn scale<E: Real>(self) -> E {
        E::of(1.0 / (self.dim as f64).sqrt())
    }

    /// Which input holds a part's head, and from which column. `inputs` counts those without tangents.
    fn place(self, part: Part, head: usize, inputs: usize) -> (usize, usize) {
        let key_head = head / (self.query / self.kv);
        let (input, first, head) = match part {
            Part::Query => (0, 0, head),
            Part::Key => (1, self.query, key_head),
            Part::Value => (2, self.query + self.kv, key_head),
        };
        if inputs == 1 { (0, (first + head) * self.dim) } else { (input, head * self.dim) }
    }
}

impl<'a, E: Real, const N: usize> Sequence<'a, E, N> {
    fn new(inputs: [&'a [E]; N], widths: [usize; N], seq: usize, row: usize) -> Self {
        let inputs = from_fn(|i| &inputs[i][row * seq * widths[i]..(row + 1) * seq * widths[i]]);
        Self { inputs, widths, seq }
    }

    /// A head of a part, `[seq, dim]`; `tangent` skips the inputs that have one.
    fn head(&self, this: Attention, part: Part, head: usize, inputs: usize, tangent: bool) -> View<'a, E> {
        let (input, column) = this.place(part, head, inputs);
        let input = if tangent { inputs + input } else { input };
        View::rows(&self.inputs[input][column..], [self.seq, this.dim], self.widths[input])
    }

    /// The weights of a head, `[seq, seq]`.
    fn weights(&self, this: Attention, head: usize, inputs: usize, p: &mut [E]) {
        let q = self.head(this, Part::Query, head, inputs, false);
        let k = self.head(this, Part::Key, head, inputs, false);
        multiply(p, self.seq, false, this.scale(), q, k.t(), Threads::One);
        vectorised!(E, {
            for (row, p) in p.chunks_exact_mut(self.seq).enumerate() {
                let (p, hidden) = p.split_at_mut(row + 1);
                let shift = largest(p);
                for p in p.iter_mut() {
                    *p = (*p - shift).exponential();
                }
                let total = E::one() / sum([&*p], |[p]| p);
                for p in p.iter_mut() {
                    *p = *p * total;
                }
                hidden.fill(E::zero());
            }
        });
    }

    /// Tangents of the scores of a head, `c (q' k^T + q k'^T)`.
    fn score_tangents(&self, this: Attention, head: usize, d: &mut [E]) {
        let at = |part, tangent| self.head(this, part, head, N / 2, tangent);
        let (q, k) = (at(Part::Query, false), at(Part::Key, false));
        let (dq, dk) = (at(Part::Query, true), at(Part::Key, true));
        multiply(d, self.seq, false, this.scale(), dq, k.t(), Threads::One);
        multiply(d, self.seq, true, this.scale(), q, dk.t(), Threads::One);
    }
}

/// Contiguous inputs, their rows' widths, and `[batch, seq]`.
fn contiguous<const N: usize>(inputs: &[FlexTensor; N]) -> ([FlexTensor; N], [usize; N], [usize; 2]) {
    let shape = inputs[0].shape();
    (
        inputs.each_ref().map(FlexTensor::to_contiguous),
        from_fn(|i| inputs[i].shape()[2]),
        [shape[0], shape[1]],
    )
}

/// Runs a task for every sequence on its rows of the outputs.
fn outputs<E: Real, const N: usize, const M: usize>(
    this: Attention,
    inputs: &[FlexTensor; N],
    task: impl Fn(Sequence<E, N>, [&mut [E]; M]) + Sync,
) -> [FlexTensor; M] {
    let (inputs, widths, [batch, seq]) = contiguous(inputs);
    let slices = inputs.each_ref().map(slice::<E>);
    let width = this.query * this.dim;
    let (outputs, _) = fill([batch * seq * width; M], [seq * width; M], |row, outputs| {
        task(Sequence::new(slices, widths, seq, row), outputs);
    });
    outputs.map(|output| FlexTensor::from_data(TensorData::new(output, [batch, seq, width])))
}

fn value<E: Real, const N: usize>(_: E, this: Attention, inputs: &[FlexTensor; N]) -> [FlexTensor; 1] {
    let width = this.query * this.dim;
    outputs(this, inputs, |sequence: Sequence<E, N>, [y]| {
        let seq = sequence.seq;
        let mut p = vec![E::zero(); seq * seq];
        for head in 0..this.query {
            sequence.weights(this, head, N, &mut p);
            let v = sequence.head(this, Part::Value, head, N, false);
            let p = View::rows(&p, [seq, seq], seq);
            multiply(&mut y[head * this.dim..], width, false, E::one(), p, v, Threads::One);
        }
    })
}

fn dual<E: Real, const N: usize>(_: E, this: Attention, inputs: &[FlexTensor; N]) -> [FlexTensor; 2] {
    let width = this.query * this.dim;
    outputs(this, inputs, |sequence: Sequence<E, N>, [y, dy]| {
        let seq = sequence.seq;
        let (mut p, mut d) = (vec![E::zero(); seq * seq], vec![E::zero(); seq * seq]);
        for head in 0..this.query {
            sequence.weights(this, head, N / 2, &mut p);
            sequence.score_tangents(this, head, &mut d);
            through_softmax(seq, &p, &mut d);
            let [v, dv] = [false, true].map(|tangent| sequence.head(this, Part::Value, head, N / 2, tangent));
            let [p, d] = [&p, &d].map(|p| View::rows(p, [seq, seq], seq));
            let [y, dy] = [&mut *y, &mut *dy].map(|output| &mut output[head * this.dim..]);
            multiply(y, width, false, E::one(), p, v, Threads::One);
            multiply(dy, width, false, E::one(), d, v, Threads::One);
            multiply(dy, width, true, E::one(), p, dv, Threads::One);
        }
    })
}

/// `d = p (d - <p, d>)` of every row of `[seq, seq]`, zero past the diagonal: the derivative of the weights
/// p along d, and also the gradient of `<d, p>`.
fn through_softmax<E: Real>(seq: usize, p: &[E], d: &mut [E]) {
    vectorised!(E, {
        for (row, (p, d)) in p.chunks_exact(seq).zip(d.chunks_exact_mut(seq)).enumerate() {
            let (p, (d, hidden)) = (&p[..=row], d.split_at_mut(row + 1));
            let mean = sum([p, &*d], |[p, d]| p * d);
            for (d, p) in d.iter_mut().zip(p) {
                *d = *p * (*d - mean);
            }
            hidden.fill(E::zero());
        }
    });
}

fn value_gradients<E: Real, const N: usize>(
    _: E,
    this: Attention,
    inputs: &[FlexTensor; N],
    gradients: [&FlexTensor; 1],
) -> [FlexTensor; N] {
    to_inputs(this, inputs, gradients, |task: &mut Task<E, N, 1>| task.backward(this))
}

fn dual_gradients<E: Real, const N: usize>(
    _: E,
    this: Attention,
    inputs: &[FlexTensor; N],
    gradients: [&FlexTensor; 2],
) -> [FlexTensor; N] {
    to_inputs(this, inputs, gradients, |task: &mut Task<E, N, 2>| task.dual_backward(this))
}

/// One sequence on the way back.
struct Task<'a, 'b, E, const N: usize, const M: usize> {
    sequence: Sequence<'a, E, N>,
    /// Gradients of the outputs' rows.
    gradients: [&'a [E]; M],
    /// Where those of the inputs' rows go.
    to_inputs: [&'b mut [E]; N],
}

fn to_inputs<E: Real, const N: usize, const M: usize>(
    this: Attention,
    inputs: &[FlexTensor; N],
    gradients: [&FlexTensor; M],
    task: impl Fn(&mut Task<E, N, M>) + Sync,
) -> [FlexTensor; N] {
    let (inputs, widths, [batch, seq]) = contiguous(inputs);
    let slices = inputs.each_ref().map(slice::<E>);
    let gradients = gradients.map(FlexTensor::to_contiguous);
    let gradients = gradients.each_ref().map(slice::<E>);
    let length = seq * this.query * this.dim;
    let parts = widths.map(|width| seq * width);
    let (of_inputs, _) = fill(parts.map(|part| batch * part), parts, |row, to_inputs| {
        let sequence = Sequence::new(slices, widths, seq, row);
        let gradients = gradients.map(|slice| &slice[row * length..(row + 1) * length]);
        task(&mut Task { sequence, gradients, to_inputs });
    });
    let mut widths = widths.into_iter();
    of_inputs.map(|gradient| {
        let width = widths.next().expect("a width for each input");
        FlexTensor::from_data(TensorData::new(gradient, [batch, seq, width]))
    })
}

impl<'a, E: Real, const N: usize, const M: usize> Task<'a, '_, E, N, M> {
    /// Adds `factor a b` to the gradient of a part of a head, or of its tangent. It starts at zero.
    fn add(
        &mut self,
        this: Attention,
        (part, tangent): (Part, bool),
        head: usize,
        inputs: usize,
        (factor, a, b): (E, View<E>, View<E>),
    ) {
        let (input, column) = this.place(part, head, inputs);
        let input = if tangent { inputs + input } else { input };
        let to = &mut self.to_inputs[input][column..];
        multiply(to, self.sequence.widths[input], true, factor, a, b, Threads::One);
    }

    /// The gradient of a head of an output.
    fn of_output(&self, this: Attention, output: usize, head: usize) -> View<'a, E> {
        let rows = &self.gradients[output][head * this.dim..];
        View::rows(rows, [self.sequence.seq, this.dim], this.query * this.dim)
    }

    fn backward(&mut self, this: Attention) {
        let (sequence, seq, c) = (self.sequence, self.sequence.seq, this.scale());
        let mut p = vec![E::zero(); seq * seq];
        let mut a = p.clone();
        for head in 0..this.query {
            let at = |part| sequence.head(this, part, head, N, false);
            let g = self.of_output(this, 0, head);
            sequence.weights(this, head, N, &mut p);
            multiply(&mut a, seq, false, E::one(), g, at(Part::Value).t(), Threads::One);
            let square = |p| View::rows(p, [seq, seq], seq);
            self.add(this, (Part::Value, false), head, N, (E::one(), square(&p).t(), g));
            through_softmax(seq, &p, &mut a);
            self.add(this, (Part::Query, false), head, N, (c, square(&a), at(Part::Key)));
            self.add(this, (Part::Key, false), head, N, (c, square(&a).t(), at(Part::Query)));
        }
    }

    /// With g and g' the gradients of o and o', d the scores' tangents, a = g' v^T, b = g' v'^T + g v^T, and `<p, x>` the
    /// sums along a row: gradients of the scores' tangents `s' = p (a - <p, a>)`, of the weights
    /// `b + a (d - <p, d>) - d <p, a>`, and through those of the scores s.
    fn dual_backward(&mut self, this: Attention) {
        let (sequence, seq, c) = (self.sequence, self.sequence.seq, this.scale());
        let mut p = vec![E::zero(); seq * seq];
        let (mut d, mut a, mut b) = (p.clone(), p.clone(), p.clone());
        let mut row_gradient = vec![E::zero(); seq];
        for head in 0..this.query {
            let at = |part, tangent| sequence.head(this, part, head, N / 2, tangent);
            let [g, dg] = [0, 1].map(|output| self.of_output(this, output, head));
            let [v, dv] = [false, true].map(|tangent| at(Part::Value, tangent));
            sequence.weights(this, head, N / 2, &mut p);
            sequence.score_tangents(this, head, &mut d);
            multiply(&mut a, seq, false, E::one(), dg, v.t(), Threads::One);
            multiply(&mut b, seq, false, E::one(), dg, dv.t(), Threads::One);
            multiply(&mut b, seq, true, E::one(), g, v.t(), Threads::One);
            vectorised!(E, {
                let rows = p.chunks_exact(seq).zip(d.chunks_exact_mut(seq));
                let rows = rows.zip(a.chunks_exact_mut(seq)).zip(b.chunks_exact_mut(seq)).enumerate();
                for (row, (((p, d), a), b)) in rows {
                    let p = &p[..=row];
                    let ((d, hidden_d), (a, hidden_a)) = (d.split_at_mut(row + 1), a.split_at_mut(row + 1));
                    let (b, hidden_b) = b.split_at_mut(row + 1);
                    let (mean_d, mean_a) = (sum([p, &*d], |[p, d]| p * d), sum([p, &*a], |[p, a]| p * a));
                    let of_weights = &mut row_gradient[..=row];
                    map([&*a, &*b, &*d], of_weights, |[a, b, d]| b + a * (d - mean_d) - d * mean_a);
                    let mean = sum([p, &*of_weights], |[p, x]| p * x);
                    map([p, &*of_weights], b, |[p, x]| p * (x - mean));
                    for ((a, d), p) in a.iter_mut().zip(d).zip(p) {
                        *a = *p * (*a - mean_a);
                        *d = *p * (*d - mean_d);
                    }
                    for hidden in [hidden_d, hidden_a, hidden_b] {
                        hidden.fill(E::zero());
                    }
                }
            });
            let square = |x| View::rows(x, [seq, seq], seq);
            let (of_tangents, of_scores) = (square(&a), square(&b));
            let [q, dq] = [false, true].map(|tangent| at(Part::Query, tangent));
            let [k, dk] = [false, true].map(|tangent| at(Part::Key, tangent));
            for (to, product) in [
                ((Part::Value, false), (E::one(), square(&d).t(), dg)),
                ((Part::Value, false), (E::one(), square(&p).t(), g)),
                ((Part::Value, true), (E::one(), square(&p).t(), dg)),
                ((Part::Query, true), (c, of_tangents, k)),
                ((Part::Key, true), (c, of_tangents.t(), q)),
                ((Part::Query, false), (c, of_scores, k)),
                ((Part::Query, false), (c, of_tangents, dk)),
                ((Part::Key, false), (c, of_scores.t(), q)),
                ((Part::Key, false), (c, of_tangents.t(), dq)),
            ] {
                self.add(this, to, head, N / 2, product);
            }
        }
    }
}
