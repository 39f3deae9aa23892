//! The flat parameter vector, split into the leaves that a forward pass reads.

use std::{ops::Range, sync::Arc};

use burn::tensor::{DType, Device, Gradients, Int, Tensor, TensorData, s};

use crate::{
    Adapters, Dual, Layout, MatmulPrecision, Param, Trace, backend::part, fused::zeros, matmul::matmul,
};

/// The parameters of one forward pass, each a 1-D leaf with its shape.
///
/// They are split before autodiff sees them: slicing one tracked flat vector would pad every
/// gradient to its full length. With LoRA the leaves are those of the adapters, and the model's own parameters are
/// constants of the pass.
#[derive(Debug)]
pub struct Params {
    leaves: Vec<Dual<1>>,
    shapes: Vec<Vec<usize>>,
    adapters: Option<Arc<Adapters>>,
    padding: Padding,
    trace: Option<Arc<Trace>>,
}

/// Which derivative leaves out the lookup of an embedding's padding row.
///
/// PyTorch's `Embedding(padding_idx)` looks the row up like any other and drops the gradient that comes back
/// to it there, so the gradient g(theta) that training steps along is not the gradient of the loss. Exactness in
/// the walk back asks for a true derivative of that g.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// None: a true derivative, as a metric's.
    Kept,
    /// The gradient: it is the one that training steps along.
    NoGradient,
    /// The tangent: it is <g, u> for a direction u, and its gradient is true.
    NoTangent,
}

impl Params {
    /// Splits `theta` `[layout.len()]`; nothing is tracked.
    pub fn new(layout: &Layout, theta: &Tensor<1>) -> Self {
        Self {
            leaves: split(layout, theta).map(Dual::from).collect(),
            shapes: layout.params().iter().map(|param| param.shape.clone()).collect(),
            adapters: layout.adapters().cloned(),
            padding: Padding::Kept,
            trace: None,
        }
    }

    /// Splits `theta` into leaves that autodiff tracks, for a true gradient.
    pub fn tracked(layout: &Layout, theta: &Tensor<1>) -> Self {
        let mut params = Self::new(layout, theta);
        for leaf in &mut params.leaves {
            leaf.primal = leaf.primal.clone().autodiff().require_grad();
        }
        params
    }

    /// Splits `theta` into leaves that autodiff tracks, for the gradient that training steps along: nothing
    /// comes back to an embedding's padding row from its lookups.
    pub fn trained(layout: &Layout, theta: &Tensor<1>) -> Self {
        Self { padding: Padding::NoGradient, ..Self::tracked(layout, theta) }
    }

    /// Has the pass leave a trace of how it uses the leaves, which are tracked.
    #[must_use]
    pub fn traced(self, trace: &Arc<Trace>) -> Self {
        Self { trace: Some(trace.clone()), ..self }
    }

    /// `y`, which was made of a parameter of the model, and perhaps of others with it; a trace notes how it moves `along`
    /// the tangents of parameters. Its first dimension is that of the rows that pass.
    pub(crate) fn note<const D: usize>(
        &self,
        parameter: usize,
        y: Dual<D>,
        along: impl Fn(&Self) -> Option<Tensor<D>> + Send + Sync + 'static,
    ) -> Dual<D> {
        let is_trained = self.adapters.as_ref().is_none_or(|adapters| adapters.place(parameter).is_some());
        match &self.trace {
            Some(trace) if is_trained => Dual::new(trace.note(y.primal, along), y.tangent),
            _ => y,
        }
    }

    /// Gives the leaves the tangent `direction` `[layout.len()]`, a constant for autodiff. A leaf whose
    /// part of it is zero gets none, which saves its products.
    ///
    /// The tangent of a loss is then `<g, direction>`, g being its gradient in [`trained`](Self::trained)
    /// leaves, and its gradient in tracked leaves is true: `grad <g, direction>`.
    #[must_use]
    pub fn with_tangent(mut self, layout: &Layout, direction: &Tensor<1>) -> Self {
        self.padding = Padding::NoTangent;
        let tangents: Vec<_> = split(layout, direction).collect();
        let zeros = zero_everywhere(&tangents, &starts_at_zero(layout, direction));
        for ((leaf, tangent), is_zero) in self.leaves.iter_mut().zip(tangents).zip(zeros) {
            if !is_zero {
                leaf.tangent = Some(if leaf.primal.is_autodiff() { tangent.autodiff() } else { tangent });
            }
        }
        self
    }

    /// Gradients of the tracked leaves as one flat vector `[layout.len()]`; zero for a leaf that
    /// the result does not depend on.
    ///
    /// Each leaf's is freed once it is in its place.
    pub fn gradient(&self, gradients: Gradients) -> Tensor<1> {
        self.leaf_gradients(gradients).flat(&self.leaves[0].primal.clone().inner())
    }

    /// The same, leaf by leaf.
    pub fn leaf_gradients(&self, mut gradients: Gradients) -> LeafGradients {
        let of = |leaf: &Dual<1>| (leaf.primal.dims()[0], leaf.primal.grad_remove(&mut gradients));
        LeafGradients(self.leaves.iter().map(of).collect())
    }

    /// A parameter of the model as a vector `[n]`.
    pub fn vector(&self, index: usize) -> Dual<1> {
        match &self.adapters {
            None => self.leaves[index].clone(),
            Some(adapters) => self.alike(adapters.weight(index, &self.device().without_autodiff())).into(),
        }
    }

    /// A parameter of the model as a matrix. With LoRA its numbers may be of a narrower type than those of the pass.
    pub fn matrix(&self, index: usize) -> Dual<2> {
        let shape = match &self.adapters {
            None => &self.shapes[index],
            Some(adapters) => &adapters.model().params()[index].shape,
        };
        self.vector(index).reshape([shape[0], shape[1]])
    }

    /// `x W + b` of a linear layer's parameters, and, where W has an adapter, `s (x A) B` besides: `x [rows, in]`,
    /// returns `[rows, out]`.
    pub(crate) fn linear(
        &self,
        x: Dual<2>,
        weight: usize,
        bias: Option<usize>,
        precision: MatmulPrecision,
    ) -> Dual<2> {
        let kept = untracked(&x.primal);
        let y = x.clone().linear(self.matrix(weight), bias.map(|bias| self.row(bias)), precision);
        let y = match self.adapter(weight) {
            None => y,
            Some(adapter) => y + adapter.output(x, precision),
        };
        self.note(weight, y, move |params| params.linear_along(kept.clone(), weight, bias, precision))
    }

    /// What [`linear`](Self::linear) gives moves by this along the tangents of the parameters, if they have any.
    fn linear_along(
        &self,
        x: Tensor<2>,
        weight: usize,
        bias: Option<usize>,
        precision: MatmulPrecision,
    ) -> Option<Tensor<2>> {
        if let Some(adapter) = self.adapter(weight) {
            return adapter.output(x.into(), precision).tangent;
        }
        let rows = x.dims()[0];
        let of_weight = self.matrix(weight).tangent.map(|dw| matmul(x, dw, precision));
        match (of_weight, bias.and_then(|bias| self.row(bias).tangent)) {
            (Some(y), Some(db)) => Some(y + db),
            (None, Some(db)) => {
                let n = db.dims()[1];
                Some(db.expand([rows, n]))
            }
            (y, None) => y,
        }
    }

    /// A parameter of the model as a matrix of one row.
    fn row(&self, index: usize) -> Dual<2> {
        let row = self.vector(index);
        let n = row.dims()[0];
        row.reshape([1, n])
    }

    /// What adapts a weight of the model.
    fn adapter(&self, weight: usize) -> Option<Adapter> {
        let adapters = self.adapters.as_ref()?;
        let place = adapters.place(weight)?;
        let [a, b] = [place, place + 1].map(|leaf| {
            let shape = &self.shapes[leaf];
            self.leaves[leaf].clone().reshape([shape[0], shape[1]])
        });
        Some(Adapter { a, b, scale: adapters.scale() })
    }

    /// A constant of the pass, tracked if the leaves are.
    fn alike<const D: usize>(&self, constant: Tensor<D>) -> Tensor<D> {
        if self.leaves[0].primal.is_autodiff() { constant.autodiff() } else { constant }
    }

    /// What becomes of lookups of an embedding's padding row.
    pub(crate) fn padding(&self) -> Padding {
        self.padding
    }

    /// Where constants of the pass belong: the leaves' device, tracked if they are.
    pub fn device(&self) -> Device {
        self.leaves[0].primal.device()
    }

    /// The floating-point type of the pass.
    pub fn dtype(&self) -> DType {
        self.leaves[0].primal.dtype()
    }

    /// A constant of the pass.
    pub fn constant<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        constant(values, shape, &self.leaves[0].primal)
    }

    /// Integers of the pass.
    pub fn integers<const D: usize>(&self, values: Vec<i64>, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_data(TensorData::new(values, shape), &self.device())
    }
}

/// What is added to a frozen weight: `scale A B`, A `[in, rank]` and B `[rank, out]`.
struct Adapter {
    a: Dual<2>,
    b: Dual<2>,
    scale: f64,
}

impl Adapter {
    /// `scale (x A) B`.
    fn output(self, x: Dual<2>, precision: MatmulPrecision) -> Dual<2> {
        x.linear(self.a, None, precision).scale(self.scale).linear(self.b, None, precision)
    }
}

/// A tensor without autodiff.
pub(crate) fn untracked<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    let x = x.clone();
    if x.is_autodiff() { x.inner() } else { x }
}

/// Numbers on the device of others and of their type.
pub fn constant<const D: usize, const E: usize>(
    values: Vec<f64>,
    shape: [usize; D],
    like: &Tensor<E>,
) -> Tensor<D> {
    let data = TensorData::new(values, shape).convert_dtype(like.dtype());
    Tensor::from_data(data, (&like.device(), like.dtype()))
}

/// Places in a tensor, for what selects them.
pub(crate) fn indices(places: &[usize], device: &Device) -> Tensor<1, Int> {
    let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
    Tensor::from_data(places.as_slice(), device)
}

/// For each parameter, whether its first elements are zero: one read from the device tells apart nearly all.
fn starts_at_zero(layout: &Layout, flat: &Tensor<1>) -> Vec<bool> {
    const FIRST: usize = 16;
    let starts: Vec<_> = layout.params().iter().map(Param::range).collect();
    let places = |range: &Range<usize>| range.start..range.end.min(range.start + FIRST);
    let index = indices(&starts.iter().flat_map(places).collect::<Vec<_>>(), &flat.device());
    let values: Vec<f64> = flat.clone().select(0, index).to_data_as::<f64>().iter().collect();
    let mut values = values.into_iter();
    starts
        .iter()
        .map(|range| places(range).fold(true, |zero, _| (values.next() == Some(0.0)) & zero))
        .collect()
}

/// Gradients of a pass's leaves, which need no second copy of them to be added up.
#[derive(Debug)]
pub struct LeafGradients(
    /// Length of each leaf, and its gradient if the result depends on it.
    Vec<(usize, Option<Tensor<1>>)>,
);

impl LeafGradients {
    /// The sum of two passes' gradients.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        let sum = |((length, a), (_, b)): ((usize, Option<Tensor<1>>), (_, Option<Tensor<1>>))| match (a, b) {
            (Some(a), Some(b)) => (length, Some(a + b)),
            (a, b) => (length, a.or(b)),
        };
        Self(self.0.into_iter().zip(next.0).map(sum).collect())
    }

    /// The same on another device.
    #[must_use]
    pub fn to_device(self, device: &Device) -> Self {
        let moved =
            |(length, leaf): (usize, Option<Tensor<1>>)| (length, leaf.map(|leaf| leaf.to_device(device)));
        Self(self.0.into_iter().map(moved).collect())
    }

    /// One flat vector `[layout.len()]`, of the type of `like` and where that lies; zero where there is no
    /// gradient. Each leaf's is freed once it is in its place.
    pub fn flat(self, like: &Tensor<1>) -> Tensor<1> {
        let length = self.0.iter().map(|(length, _)| length).sum::<usize>();
        self.place(zeros(length, like), |_, _, leaf| leaf)
    }

    /// `flat [layout.len()]` and the gradients, added in place where nobody else holds it.
    pub fn onto(self, flat: Tensor<1>) -> Tensor<1> {
        self.place(flat, |flat, range, leaf| leaf + flat.clone().slice(range))
    }

    /// Puts what `with` makes of each leaf into its range of a flat vector.
    fn place(
        self,
        mut flat: Tensor<1>,
        with: impl Fn(&Tensor<1>, Range<usize>, Tensor<1>) -> Tensor<1>,
    ) -> Tensor<1> {
        let mut first = 0;
        for (length, leaf) in self.0 {
            let range = first..first + length;
            if let Some(leaf) = leaf {
                let leaf = with(&flat, range.clone(), leaf);
                flat = flat.slice_assign(s![range.clone()], leaf);
            }
            first = range.end;
        }
        flat
    }
}

/// Which tensors are zero everywhere; NaN is not. Only those that may be are looked at, and all of them at once.
fn zero_everywhere(tensors: &[Tensor<1>], may_be: &[bool]) -> Vec<bool> {
    let sums: Vec<_> = tensors
        .iter()
        .zip(may_be)
        .filter(|(_, may_be)| **may_be)
        .map(|(tensor, _)| tensor.clone().abs().sum())
        .collect();
    if sums.is_empty() {
        return vec![false; tensors.len()];
    }
    let sums = Tensor::cat(sums, 0).to_data_as::<f64>();
    let mut sums = sums.iter::<f64>();
    may_be.iter().map(|may_be| *may_be && sums.next() == Some(0.0)).collect()
}

fn split<'a>(layout: &'a Layout, flat: &'a Tensor<1>) -> impl Iterator<Item = Tensor<1>> + 'a {
    assert_eq!(flat.dims(), [layout.len()], "a flat vector has the layout's length");
    let part = |range: Range<usize>| part(flat, range.clone()).unwrap_or_else(|| flat.clone().slice(range));
    layout.params().iter().map(move |param| part(param.range()))
}
