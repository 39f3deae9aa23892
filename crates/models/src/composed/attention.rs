//! Causal attention of whole sequences, alone and with its tangent; the formulas are those of [`fused`](crate::fused).

use burn::tensor::{Tensor, s};

use super::{Composed, dot};
use crate::{
    Dual, MatmulPrecision,
    fused::{Attention, AttentionDual},
    matmul::{matmul, matmul_plus},
};

/// Queries `[batch, kv, group * seq, dim]`, keys and values `[batch, kv, seq, dim]`: the query heads of a group
/// are stacked along the sequence, so that no key or value is copied.
struct Parts {
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
}

/// The form of some heads of some sequences.
#[derive(Clone, Copy)]
struct Form {
    heads: Attention,
    batch: usize,
    seq: usize,
}

impl Form {
    fn new(heads: Attention, input: &Tensor<3>) -> Self {
        let [batch, seq, _] = input.dims();
        Self { heads, batch, seq }
    }

    /// Of three inputs, or of one that holds them side by side.
    fn parts(self, inputs: &[Tensor<3>]) -> Parts {
        let Attention { query, kv, .. } = self.heads;
        let (q, k, v) = match inputs {
            [packed] => {
                let part = |first: usize, count: usize| {
                    packed.clone().narrow(2, first * self.heads.dim, count * self.heads.dim)
                };
                (part(0, query), part(query, kv), part(query + kv, kv))
            }
            [q, k, v] => (q.clone(), k.clone(), v.clone()),
            _ => unreachable!("attention has one input or three"),
        };
        Parts { q: self.queries(q), k: self.split(k, kv), v: self.split(v, kv) }
    }

    /// `[batch, seq, heads * dim]` to `[batch, heads, seq, dim]`.
    fn split(self, x: Tensor<3>, heads: usize) -> Tensor<4> {
        x.reshape([self.batch, self.seq, heads, self.heads.dim]).swap_dims(1, 2)
    }

    fn queries(self, x: Tensor<3>) -> Tensor<4> {
        let rows = self.heads.query / self.heads.kv * self.seq;
        self.split(x, self.heads.query).reshape([self.batch, self.heads.kv, rows, self.heads.dim])
    }

    /// Back to `[batch, seq, heads * dim]`.
    fn merge(self, x: Tensor<4>) -> Tensor<3> {
        let heads = x.dims()[1] * x.dims()[2] / self.seq;
        let x = x.reshape([self.batch, heads, self.seq, self.heads.dim]).swap_dims(1, 2);
        x.reshape([self.batch, self.seq, heads * self.heads.dim])
    }

    /// Gradients in the form of the inputs.
    fn inputs<const N: usize>(self, parts: Vec<Parts>) -> [Tensor<3>; N] {
        let merged = parts.into_iter().flat_map(|Parts { q, k, v }| {
            let parts = [q, k, v].map(|part| self.merge(part)).to_vec();
            if N < 3 { vec![side_by_side(parts)] } else { parts }
        });
        let merged: Vec<_> = merged.collect();
        merged.try_into().unwrap_or_else(|_| unreachable!("as many gradients as inputs"))
    }

    fn scale(self) -> f64 {
        1.0 / (self.heads.dim as f64).sqrt()
    }

    fn product(self, a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
        matmul(a, b, self.heads.precision)
    }

    /// `a b + c`.
    fn product_plus(self, a: Tensor<4>, b: Tensor<4>, c: Tensor<4>) -> Tensor<4> {
        matmul_plus(a, b, c, self.heads.precision)
    }

    /// `a b^T`.
    fn outer(self, a: &Tensor<4>, b: &Tensor<4>) -> Tensor<4> {
        self.product(a.clone(), turned(b))
    }

    /// `a^T b`.
    fn inner(self, a: &Tensor<4>, b: &Tensor<4>) -> Tensor<4> {
        self.product(turned(a), b.clone())
    }

    /// The weights, zero past the diagonal.
    fn weights(self, Parts { q, k, .. }: &Parts) -> Tensor<4> {
        let stacked = self.outer(q, k);
        let shape = stacked.dims();
        let scores = Dual::from(stacked.reshape([self.batch, self.heads.query, self.seq, self.seq]));
        scores.softmax(self.scale(), Some(self.seq)).primal.reshape(shape)
    }

    /// Tangents of the scores, `c (q' k^T + q k'^T)`.
    fn score_tangents(self, parts: &Parts, tangents: &Parts) -> Tensor<4> {
        self.product_plus(parts.q.clone(), turned(&tangents.k), self.outer(&tangents.q, &parts.k))
            * self.scale()
    }
}

/// `x^T`.
fn turned(x: &Tensor<4>) -> Tensor<4> {
    x.clone().swap_dims(2, 3)
}

/// `p (d - <p, d>)`: the derivative of the weights p along d, and also the gradient of <d, p>.
fn through_softmax(p: &Tensor<4>, d: Tensor<4>) -> Tensor<4> {
    let mean = dot(p, &d);
    p.clone() * (d - mean)
}

impl<const N: usize> Composed<3, N> for Attention {
    fn value(&self, inputs: [Tensor<3>; N]) -> [Tensor<3>; 1] {
        let form = Form::new(*self, &inputs[0]);
        let parts = form.parts(&inputs);
        [form.merge(form.product(form.weights(&parts), parts.v))]
    }

    fn gradients(&self, _: [bool; N], inputs: [Tensor<3>; N], [g]: [Tensor<3>; 1]) -> [Option<Tensor<3>>; N] {
        let form = Form::new(*self, &inputs[0]);
        let (parts, g) = (form.parts(&inputs), form.queries(g));
        let p = form.weights(&parts);
        let a = through_softmax(&p, form.outer(&g, &parts.v)) * form.scale();
        let gradients = Parts {
            q: form.product(a.clone(), parts.k.clone()),
            k: form.inner(&a, &parts.q),
            v: form.inner(&p, &g),
        };
        form.inputs(vec![gradients]).map(Some)
    }

    fn is_fused(&self) -> bool {
        self.precision == MatmulPrecision::F32
    }
}

impl<const N: usize> Composed<3, N, 2> for AttentionDual {
    fn value(&self, inputs: [Tensor<3>; N]) -> [Tensor<3>; 2] {
        let form = Form::new(self.0, &inputs[0]);
        let (parts, tangents) = (form.parts(&inputs[..N / 2]), form.parts(&inputs[N / 2..]));
        let p = form.weights(&parts);
        let d = through_softmax(&p, form.score_tangents(&parts, &tangents));
        let y = form.product(p.clone(), parts.v.clone());
        let dy = form.product_plus(p, tangents.v, form.product(d, parts.v));
        [y, dy].map(|output| form.merge(output))
    }

    /// With g and g' the gradients of o and o', d the scores' tangents, a = g' v^T, b = g' v'^T + g v^T, and `<p, x>` the
    /// sums along a row: gradients of the scores' tangents `p (a - <p, a>)`, of the weights
    /// `b + a (d - <p, d>) - d <p, a>`, and through those of the scores.
    fn gradients(
        &self,
        _: [bool; N],
        inputs: [Tensor<3>; N],
        gradients: [Tensor<3>; 2],
    ) -> [Option<Tensor<3>>; N] {
        let form = Form::new(self.0, &inputs[0]);
        let (parts, tangents) = (form.parts(&inputs[..N / 2]), form.parts(&inputs[N / 2..]));
        let [g, dg] = gradients.map(|gradient| form.queries(gradient));
        let p = form.weights(&parts);
        let d = form.score_tangents(&parts, &tangents);
        let a = form.outer(&dg, &parts.v);
        let b = form.product_plus(g.clone(), turned(&parts.v), form.outer(&dg, &tangents.v));
        let mean = |x: &Tensor<4>| dot(&p, x);
        let of_weights = b + a.clone() * (d.clone() - mean(&d)) - d.clone() * mean(&a);
        let of_scores = through_softmax(&p, of_weights) * form.scale();
        let of_tangents = through_softmax(&p, a) * form.scale();
        let weights_tangent = through_softmax(&p, d);
        let gradients = Parts {
            q: form.product_plus(
                of_tangents.clone(),
                tangents.k,
                form.product(of_scores.clone(), parts.k.clone()),
            ),
            k: form.product_plus(turned(&of_tangents), tangents.q, form.inner(&of_scores, &parts.q)),
            v: form.product_plus(turned(&p), g, form.inner(&weights_tangent, &dg)),
        };
        let of_tangent = Parts {
            q: form.product(of_tangents.clone(), parts.k),
            k: form.inner(&of_tangents, &parts.q),
            v: form.inner(&p, &dg),
        };
        form.inputs(vec![gradients, of_tangent]).map(Some)
    }

    fn is_fused(&self) -> bool {
        self.0.precision == MatmulPrecision::F32
    }
}

/// Tensors side by side along the last dimension. burn would compute, for each number, which of them it is of.
fn side_by_side(parts: Vec<Tensor<3>>) -> Tensor<3> {
    let [batch, seq, _] = parts[0].dims();
    let width = parts.iter().map(|part| part.dims()[2]).sum();
    let all = Tensor::empty([batch, seq, width], (&parts[0].device(), parts[0].dtype()));
    let mut first = 0;
    parts.into_iter().fold(all, |all, part| {
        let range = first..first + part.dims()[2];
        first = range.end;
        all.slice_assign(s![.., .., range], part)
    })
}
