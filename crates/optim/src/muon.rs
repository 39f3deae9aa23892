//! Muon (Jordan et al., 2024, <https://kellerjordan.github.io/posts/muon>): the step of a linear layer's weight is
//! its momentum made nearly orthogonal by Newton-Schulz iterations. All other parameters are AdamW's. As
//! `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, whose iterations are in bf16; here they are in the type of the
//! run.
//!
//! ```text
//! m' = mu m + (1 - mu) g         n = (1 - mu) g + mu m'
//! X  = n / max(|n|, eps)         five times: S = X X^T, X <- a X + (b S + c S S) X
//! theta' = theta - lr (0.2 sqrt(longer side) X + wd theta)
//! ```

use std::ops::Range;

use burn::tensor::Tensor;
use dpg_models::Layout;
use dpg_spec::Muon;

use crate::{Back, Optimizer, Replay, Run, State, elementwise::vectors};

const COEFFICIENTS: [f64; 3] = [3.4445, -4.775, 2.0315];
const ITERATIONS: usize = 5;
/// Least norm that a matrix is divided by.
const EPS: f64 = 1e-7;

/// Weights, momentum and AdamW's second moment, of a part of the parameters.
type Vectors = [Tensor<1>; 3];

impl Optimizer for Muon {
    fn moments(&self) -> usize {
        2
    }

    fn is_elementwise(&self) -> bool {
        false
    }

    fn advance(&self, run: &Run, first: usize, state: State, gradients: &[Tensor<1>]) -> State {
        let split = Split::new(run.layout);
        let follow = |state: Vectors, (step, g): (usize, &Tensor<1>)| {
            let rest = split.rest_of(&state).map(|rest| {
                let run = Run { layout: &split.rest, ..*run };
                let g = split.gather(g);
                vectors(self.rest().advance(&run, step, State::of(rest.into()), &[g]))
            });
            let linear = |range: &Range<usize>, shape: [usize; 2]| {
                let [theta, m, v] = state.each_ref().map(|vector| vector.clone().slice(range.clone()));
                let (m, n) = momentum(self.momentum, m, g.clone().slice(range.clone()));
                let x = Orthogonal::of(n.reshape(shape)).result().reshape([-1]);
                let (size, kept) = sizes(self, run, step, shape);
                [theta * kept - x * size, m, v]
            };
            split.join(rest, linear)
        };
        State::of((first..).zip(gradients).fold(vectors(state), follow).into())
    }

    fn back(&self, Replay { run, first, start, gradients }: Replay, g: Tensor<1>, adjoint: State) -> Back {
        let before = vectors(self.advance(run, first, start.clone(), gradients));
        let (step, adjoint) = (first + gradients.len(), vectors(adjoint));
        let split = Split::new(run.layout);
        let rest = split.rest_of(&before).zip(split.rest_of(&adjoint)).map(|(before, adjoint)| {
            let run = Run { layout: &split.rest, ..*run };
            let start = State::of(before.into());
            let replay = Replay { run: &run, first: step, start: &start, gradients: &[] };
            let back = self.rest().back(replay, split.gather(&g), State::of(adjoint.into()));
            let [theta, m, v] = vectors(back.adjoint);
            [theta, m, v, back.u]
        });
        let linear = |range: &Range<usize>, shape: [usize; 2]| {
            let of = |vector: &Tensor<1>| vector.clone().slice(range.clone());
            let [lambda, lambda_m, lambda_v] = adjoint.each_ref().map(of);
            let (_, n) = momentum(self.momentum, of(&before[1]), of(&g));
            let (size, kept) = sizes(self, run, step, shape);
            let along = Orthogonal::of(n.reshape(shape)).back((lambda.clone() * -size).reshape(shape));
            let along = along.reshape([-1]);
            let lambda_m = lambda_m + along.clone() * self.momentum;
            let u = (along + lambda_m.clone()) * (1.0 - self.momentum);
            [lambda * kept, lambda_m * self.momentum, lambda_v, u]
        };
        let [theta, m, v, u] = split.join(rest, linear);
        let [before, ..] = before;
        Back { theta: before, adjoint: State { theta, moments: vec![m, v] }, u }
    }
}

/// The momentum after a gradient, and what of both a step goes along.
fn momentum(kept: f64, m: Tensor<1>, g: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let m = m * kept + g.clone() * (1.0 - kept);
    (m.clone(), g * (1.0 - kept) + m * kept)
}

/// Length of a step, and what weight decay leaves of a weight.
fn sizes(muon: &Muon, run: &Run, step: usize, shape: [usize; 2]) -> (f64, f64) {
    let learning_rate = muon.learning_rate * run.rate(step);
    let longer = shape[0].max(shape[1]) as f64;
    (learning_rate * 0.2 * longer.sqrt(), 1.0 - learning_rate * muon.weight_decay)
}

/// The parameters in two: weights of linear layers, and the rest.
struct Split {
    /// In the order of the flat vector: a weight with its shape, or neighbours of the rest.
    parts: Vec<(Range<usize>, Option<[usize; 2]>)>,
    /// The rest as a vector of its own.
    rest: Layout,
}

impl Split {
    fn new(layout: &Layout) -> Self {
        let (mut parts, mut rest) = (vec![], Layout::default());
        for param in layout.params() {
            if let (true, &[rows, columns]) = (param.linear, param.shape.as_slice()) {
                parts.push((param.range(), Some([rows, columns])));
                continue;
            }
            rest.push(param.name.as_str(), &param.shape, param.transposed);
            match parts.last_mut() {
                Some((range, None)) => range.end = param.range().end,
                _ => parts.push((param.range(), None)),
            }
        }
        Self { parts, rest }
    }

    /// The rest of a flat vector.
    fn gather(&self, vector: &Tensor<1>) -> Tensor<1> {
        let rest = self.parts.iter().filter(|(_, shape)| shape.is_none());
        Tensor::cat(rest.map(|(range, _)| vector.clone().slice(range.clone())).collect(), 0)
    }

    /// The rest of three, if there is any.
    fn rest_of(&self, vectors: &Vectors) -> Option<Vectors> {
        (!self.rest.is_empty()).then(|| vectors.each_ref().map(|vector| self.gather(vector)))
    }

    /// Flat vectors, of those of the rest and those of each linear layer's weight.
    fn join<const N: usize>(
        &self,
        rest: Option<[Tensor<1>; N]>,
        linear: impl Fn(&Range<usize>, [usize; 2]) -> [Tensor<1>; N],
    ) -> [Tensor<1>; N] {
        let mut whole: [Vec<Tensor<1>>; N] = std::array::from_fn(|_| vec![]);
        let mut taken = 0;
        for (range, shape) in &self.parts {
            let vectors = if let Some(shape) = shape {
                linear(range, *shape)
            } else {
                let here = taken..taken + range.len();
                taken = here.end;
                let rest = rest.as_ref().expect("the rest has a part");
                rest.each_ref().map(|vector| vector.clone().slice(here.clone()))
            };
            for (whole, vector) in whole.iter_mut().zip(vectors) {
                whole.push(vector);
            }
        }
        whole.map(|parts| Tensor::cat(parts, 0))
    }
}

/// A matrix made nearly orthogonal, and what the way back needs.
struct Orthogonal {
    /// Before each iteration and after the last, its shorter side first.
    iterates: Vec<Tensor<2>>,
    /// What the matrix was divided by `[1, 1]`.
    size: Tensor<2>,
    /// 1 where that is the matrix's norm, 0 where it is less than `EPS`.
    by_norm: Tensor<2>,
    turned: bool,
}

impl Orthogonal {
    fn of(matrix: Tensor<2>) -> Self {
        let [rows, columns] = matrix.dims();
        let turned = rows > columns;
        let matrix = if turned { matrix.transpose() } else { matrix };
        let norm = (matrix.clone() * matrix.clone()).sum_dim(0).sum_dim(1).sqrt();
        let by_norm = norm.clone().greater_equal_elem(EPS).float().cast(norm.dtype());
        let size = norm.clamp_min(EPS);
        let mut iterates = vec![matrix / size.clone()];
        let [a, b, c] = COEFFICIENTS;
        for i in 0..ITERATIONS {
            let x = iterates[i].clone();
            let s = x.clone().matmul(x.clone().transpose());
            let inner = s.clone() * b + s.clone().matmul(s) * c;
            iterates.push(x.clone() * a + inner.matmul(x));
        }
        Self { iterates, size, by_norm, turned }
    }

    fn result(&self) -> Tensor<2> {
        self.upright(self.iterates[ITERATIONS].clone())
    }

    fn upright(&self, matrix: Tensor<2>) -> Tensor<2> {
        if self.turned { matrix.transpose() } else { matrix }
    }

    /// The adjoint of the matrix, of that of the result.
    fn back(&self, adjoint: Tensor<2>) -> Tensor<2> {
        let [a, b, c] = COEFFICIENTS;
        let mut adjoint = self.upright(adjoint);
        for x in self.iterates[..ITERATIONS].iter().rev() {
            let s = x.clone().matmul(x.clone().transpose());
            let inner = s.clone() * b + s.clone().matmul(s.clone()) * c;
            // that of `inner`, then that of s; s and `inner` are symmetric
            let of_inner = adjoint.clone().matmul(x.clone().transpose());
            let of_squared = of_inner.clone().matmul(s.clone()) + s.matmul(of_inner.clone());
            let of_s = of_inner * b + of_squared * c;
            let both = of_s.clone() + of_s.transpose();
            adjoint = adjoint.clone() * a + inner.matmul(adjoint) + both.matmul(x.clone());
        }
        let x = &self.iterates[0];
        let along = (x.clone() * adjoint.clone()).sum_dim(0).sum_dim(1) * self.by_norm.clone();
        self.upright((adjoint - x.clone() * along) / self.size.clone())
    }
}

#[cfg(test)]
impl crate::conformance::Reference for Muon {
    fn steps(&self, run: &Run, theta: &mut [f64], gradients: &[Vec<f64>]) {
        let mut by_adamw = theta.to_vec();
        self.rest().steps(run, &mut by_adamw, gradients);
        for param in run.layout.params() {
            let theta = &mut theta[param.range()];
            if !param.linear {
                theta.copy_from_slice(&by_adamw[param.range()]);
                continue;
            }
            let [rows, columns] = [param.shape[0], param.shape[1]];
            let mut m = vec![0.0; theta.len()];
            for (step, g) in gradients.iter().enumerate() {
                let rate = self.learning_rate * run.rate(step);
                let mut x = vec![0.0; theta.len()];
                for (i, g) in g[param.range()].iter().enumerate() {
                    m[i] += (g - m[i]) * (1.0 - self.momentum);
                    x[i] = g + (m[i] - g) * self.momentum;
                }
                orthogonalise(&mut x, columns);
                let scale = 0.2 * (rows.max(columns) as f64).sqrt();
                for (theta, x) in theta.iter_mut().zip(x) {
                    *theta -= rate * self.weight_decay * *theta;
                    *theta -= rate * scale * x;
                }
            }
        }
    }
}

/// `[rows, columns]` numbers by rows: columns times their own products, whichever side is longer.
#[cfg(test)]
fn orthogonalise(x: &mut [f64], columns: usize) {
    let rows = x.len() / columns;
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(EPS);
    for x in x.iter_mut() {
        *x /= norm;
    }
    let [a, b, c] = COEFFICIENTS;
    // X (X^T X), which is (X X^T) X
    let with_gram = |x: &[f64], y: &[f64]| -> Vec<f64> {
        let gram =
            |i: usize, j: usize| (0..rows).map(|r| x[r * columns + i] * x[r * columns + j]).sum::<f64>();
        let gram: Vec<Vec<f64>> = (0..columns).map(|i| (0..columns).map(|j| gram(i, j)).collect()).collect();
        let product = |r: usize, j: usize| (0..columns).map(|i| y[r * columns + i] * gram[i][j]).sum();
        (0..rows).flat_map(|r| (0..columns).map(move |j| (r, j))).map(|(r, j)| product(r, j)).collect()
    };
    for _ in 0..ITERATIONS {
        let once = with_gram(x, x);
        let twice = with_gram(x, &once);
        for (i, x) in x.iter_mut().enumerate() {
            *x = a * *x + b * once[i] + c * twice[i];
        }
    }
}
