//! Logits that are never held as a whole: chunks of places pass one after the other, so that memory is bounded however
//! many places and tokens there are. What goes back to a chunk's logits is found while they are there; none are kept for
//! a way back, or computed twice.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{
    CausalLm, Dual, MatmulPrecision, Objective, Params, Place, fused, hidden_at,
    matmul::{matmul, matmul_plus},
    params::untracked,
};

/// Logits of a chunk on the CPU, unless a place alone has more.
pub(crate) const CHUNK: usize = 1 << 23;

/// The same on other devices: 256 MiB in f32. Memory there comes in pages of the largest tensor so far, and earlier pages,
/// which are smaller, lie idle; so a chunk in three parts is no larger than a vector of 100 M weights.
const CHUNK_ELSEWHERE: usize = 1 << 26;

/// Columns of logits elsewhere are a multiple of it: devices read several numbers at a time, and write products whose
/// rows begin elsewhere at a fraction of their speed.
const COLUMNS: usize = 8;

/// What a model predicts at some places of rows.
pub struct Logits {
    /// Final hidden states, `[places, width]`.
    hidden: Dual<2>,
    /// The head, `[width, vocab]`.
    head: Dual<2>,
    /// The same as products read it: not tracked, and perhaps with more columns.
    read: Dual<2>,
    /// Whether the head's gradient is needed.
    is_trained: bool,
    /// Whether the head lies as `[vocab, width]`.
    is_tied: bool,
    /// Places of a chunk.
    chunk: usize,
    precision: MatmulPrecision,
}

impl Logits {
    /// Logits that predict the tokens at `places` given those before them.
    pub fn at<R: AsRef<[u32]>>(lm: &dyn CausalLm, params: &Params, rows: &[R], places: &[Place]) -> Self {
        let hidden = hidden_at(lm, params, rows, places);
        let is_here = fused::is_here(&hidden.primal);
        let most = (if is_here { CHUNK } else { CHUNK_ELSEWHERE } / lm.vocab_size()).max(1);
        // devices get chunks of one size: a few rows take one as long as many
        let chunks = places.len().div_ceil(most).max(1);
        let chunk = if is_here { most } else { places.len().div_ceil(chunks).max(1) };
        let (head, is_trained) = (lm.head(), lm.layout().adapters().is_none());
        Self::new(hidden, head.weight(params), [is_trained, head.tied], chunk, lm.precision())
    }

    pub(crate) fn new(
        hidden: Dual<2>,
        head: Dual<2>,
        [is_trained, is_tied]: [bool; 2],
        chunk: usize,
        precision: MatmulPrecision,
    ) -> Self {
        let read = plain(&head).linear_map(|weight| as_read(weight, &hidden.primal));
        Self { hidden, head, read, is_trained, is_tied, chunk, precision }
    }

    /// What the head of `params` makes of the same hidden states, which have no tangent; nothing if it has none either.
    pub(crate) fn along(&self, lm: &dyn CausalLm, params: &Params) -> Option<Self> {
        let head = lm.head().weight(params);
        head.tangent.as_ref()?;
        let hidden = untracked(&self.hidden.primal).into();
        Some(Self::new(hidden, head, [self.is_trained, self.is_tied], self.chunk, self.precision))
    }

    /// How many places there are.
    pub(crate) fn places(&self) -> usize {
        self.hidden.dims()[0]
    }

    /// Tokens that a place has a logit for.
    pub(crate) fn vocab(&self) -> usize {
        self.head.dims()[1]
    }

    /// Places that are one chunk, for all chunks.
    pub fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        let places = self.places();
        (0..places).step_by(self.chunk).map(move |first| first..(first + self.chunk).min(places))
    }

    /// Logits of some places, `[places, vocab]`. Not tracked.
    pub fn of(&self, places: Range<usize>) -> Tensor<2> {
        let hidden = part(&plain(&self.hidden).primal.into(), &places);
        self.own(hidden.linear(self.read.primal.clone().into(), None, self.precision).primal)
    }

    /// The sum over chunks of a number `[1]` that is made of their logits `[places, vocab]`, which are tracked. Tangents are
    /// left out.
    pub fn sum(&self, mut number: impl FnMut(Range<usize>, Tensor<2>) -> Tensor<1>) -> Objective {
        let objective = self.pass(|places, logits| {
            let leaf = logits.primal.autodiff().require_grad();
            let tape = number(places, self.own(leaf.clone())).backward();
            leaf.grad(&tape).map(Dual::from)
        });
        objective.expect("numbers are made of logits")
    }

    /// Has `back` see the logits of every chunk `[places, vocab or more]`, and their tangents if there are any. What it says
    /// goes back to both makes the objective; there is none if it says nothing. No tensor is tracked.
    pub(crate) fn pass(
        &self,
        mut back: impl FnMut(Range<usize>, Dual<2>) -> Option<Dual<2>>,
    ) -> Option<Objective> {
        let hidden = plain(&self.hidden);
        let turned = self.read.clone().swap_dims(0, 1);
        let (mut to_h, mut to_dh, mut to_head) = (vec![], vec![], None);
        for places in self.chunks() {
            let h = part(&hidden, &places);
            let logits = h.clone().linear(self.read.clone(), None, self.precision);
            let Some(Dual { primal: to_x, tangent: to_dx }) = back(places, logits) else { continue };
            if self.is_trained {
                self.add_product(&mut to_head, h.primal, &to_x);
                if let (Some(dh), Some(to_dx)) = (h.tangent, &to_dx) {
                    self.add_product(&mut to_head, dh, to_dx);
                }
            }
            let turned = turned.clone();
            match to_dx {
                None => to_h.push(Dual::from(to_x).linear(turned, None, self.precision).primal),
                // `to_dx W^T` and `to_x W^T + to_dx W'^T`: a dual product in which value and tangent change places
                Some(to_dx) => {
                    let both = Dual::new(to_dx, Some(to_x)).linear(turned, None, self.precision);
                    to_dh.push(both.primal);
                    to_h.extend(both.tangent);
                }
            }
        }
        let [h, head] = [&self.hidden.primal, &self.head.primal];
        let dh = self.hidden.tangent.as_ref();
        let [to_h, to_dh] = [to_h, to_dh].map(|parts| (!parts.is_empty()).then(|| Tensor::cat(parts, 0)));
        let gradients = [Some(to_h?), to_dh.filter(|_| dh.is_some()), to_head.map(|sum| self.of_head(sum))];
        Some(Objective::known([h, dh.unwrap_or(h), head], gradients))
    }

    /// Logits of tokens alone.
    fn own(&self, logits: Tensor<2>) -> Tensor<2> {
        let vocab = self.vocab();
        if logits.dims()[1] == vocab { logits } else { logits.narrow(1, 0, vocab) }
    }

    /// Adds `h^T g` to the head's gradient, which lies as the head does.
    fn add_product(&self, sum: &mut Option<Tensor<2>>, h: Tensor<2>, g: &Tensor<2>) {
        let g = g.clone();
        let (a, b) = if self.is_tied { (g.transpose(), h) } else { (h.transpose(), g) };
        *sum = Some(match sum.take() {
            None => matmul(a, b, self.precision),
            Some(sum) => matmul_plus(a, b, sum, self.precision),
        });
    }

    /// That gradient in the head's shape.
    fn of_head(&self, sum: Tensor<2>) -> Tensor<2> {
        self.own(if self.is_tied { sum.transpose() } else { sum })
    }
}

/// Without autodiff.
fn plain(x: &Dual<2>) -> Dual<2> {
    x.clone().linear_map(|x| untracked(&x))
}

/// Some rows.
fn part(x: &Dual<2>, rows: &Range<usize>) -> Dual<2> {
    x.clone().linear_map(|x| x.narrow(0, rows.start, rows.len()))
}

/// A head as products with hidden states read it. On the CPU a frozen one of a narrower type is widened once for all
/// chunks; elsewhere columns of zeros make it a multiple of [`COLUMNS`]. Nothing comes from those: no token is among them,
/// and sums of `exp(x)` leave them out.
fn as_read(weight: Tensor<2>, hidden: &Tensor<2>) -> Tensor<2> {
    let dtype = hidden.dtype();
    if fused::is_here(hidden) {
        return if hidden.dims()[0] > fused::FEW_ROWS { fused::widened_to(weight, dtype) } else { weight };
    }
    let ([width, vocab], weight) = (weight.dims(), weight.cast(dtype));
    if vocab.is_multiple_of(COLUMNS) {
        return weight;
    }
    let zeros = Tensor::zeros([vocab.next_multiple_of(COLUMNS) - vocab, width], (&weight.device(), dtype));
    // a head lies by columns
    Tensor::cat(vec![weight.transpose(), zeros], 0).transpose()
}
