//! The operations of [`fused`](crate::fused) as tensor operations, with their derivatives in closed form, for
//! devices other than the CPU.
//!
//! Autodiff would keep every intermediate result for the way back; an operation here keeps its inputs, and computes the
//! rest again.

mod activation;
mod attention;
mod linear;
mod log_prob;
mod lookup;
mod norm;
mod objective;
mod rotation;
mod watch;

use std::fmt::Debug;

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use burn_backend::AutodiffBackend;

pub(crate) use linear::matmul;
pub(crate) use log_prob::log_probs;
pub use objective::Objective;
pub(crate) use rotation::turned;
pub(crate) use watch::watch;

use crate::autodiff::{WayBack, track};
use crate::backend::{self, dot_rows, row_means};
use crate::constant;
use crate::fused::{self, Operation, run as run_fused};

/// A function of `N` tensors with its derivative; `M` tensors, a value and its tangent where there are two. No tensor here
/// is tracked.
pub(crate) trait Composed<const D: usize, const N: usize, const M: usize = 1>:
    Clone + Debug + Send + 'static
{
    /// Whether [`gradients`](Self::gradients) reads the inputs; those of a linear function are not kept, and the gradient
    /// stands in for each of them.
    const READS_INPUTS: bool = true;

    /// The outputs.
    fn value(&self, inputs: [Tensor<D>; N]) -> [Tensor<D>; M];

    /// Gradients of the inputs that are `needed`, given those of the outputs.
    fn gradients(
        &self,
        needed: [bool; N],
        inputs: [Tensor<D>; N],
        gradients: [Tensor<D>; M],
    ) -> [Option<Tensor<D>>; N];

    /// Whether the CPU has a fused form of it.
    fn is_fused(&self) -> bool {
        true
    }
}

/// The operation's outputs: fused where that runs, else composed. Tracked if an input is.
pub(crate) fn run<O, const D: usize, const N: usize, const M: usize>(
    operation: O,
    inputs: [&Tensor<D>; N],
) -> [Tensor<D>; M]
where
    O: Operation<N, M> + Composed<D, N, M>,
{
    if operation.is_fused()
        && let Some(outputs) = run_fused(operation.clone(), inputs)
    {
        return outputs;
    }
    compose(operation, inputs.map(Clone::clone))
}

/// The operation's outputs, composed.
fn compose<O: Composed<D, N, M>, const D: usize, const N: usize, const M: usize>(
    operation: O,
    inputs: [Tensor<D>; N],
) -> [Tensor<D>; M] {
    if inputs.iter().all(|input| !input.is_autodiff()) {
        return operation.value(inputs);
    }
    let inputs = inputs.map(|input| if input.is_autodiff() { input } else { input.autodiff() });
    #[cfg(feature = "cube")]
    let inputs = match cube::run(operation.clone(), inputs) {
        Ok(outputs) => return outputs,
        Err(inputs) => inputs,
    };
    let outputs = flex::run(operation, inputs);
    outputs.unwrap_or_else(|_| panic!("every backend tracks composed operations"))
}

/// `run` for the tensors of one backend.
macro_rules! tracked {
    ($module:ident, $backend:ty) => {
        mod $module {
            use super::*;

            type Primitive = <$backend as burn_backend::backend::BackendTypes>::FloatTensorPrimitive;

            /// The outputs as those of an operation of autodiff; the inputs again if they lie elsewhere.
            pub(super) fn run<O: Composed<D, N, M>, const D: usize, const N: usize, const M: usize>(
                operation: O,
                inputs: [Tensor<D>; N],
            ) -> Result<[Tensor<D>; M], [Tensor<D>; N]> {
                let primitive =
                    |input: &Tensor<D>| input.clone().try_into_primitive::<Autodiff<$backend>>().ok();
                let primitives: Option<Vec<_>> = inputs.iter().map(primitive).collect();
                let Some(primitives) = primitives else { return Err(inputs) };
                let nodes: Vec<_> = primitives.iter().map(|input| input.node()).collect();
                let Ok(nodes) = <[_; N]>::try_from(nodes) else { return Err(inputs) };
                let outputs = operation.value(inputs.map(Tensor::inner)).map(primitive_of);
                let plain = primitives.into_iter().map(<Autodiff<$backend> as AutodiffBackend>::inner);
                let way_back =
                    Tracked::<O, D> { operation, inputs: O::READS_INPUTS.then(|| plain.collect()) };
                let outputs = track::<$backend, _, N, M>(nodes, way_back, outputs);
                Ok(outputs.map(Tensor::from_primitive::<Autodiff<$backend>>))
            }

            fn primitive_of<const D: usize>(tensor: Tensor<D>) -> Primitive {
                let primitive = tensor.try_into_primitive::<$backend>();
                primitive.unwrap_or_else(|_| panic!("an operation stays on its inputs' device"))
            }

            /// The way back through an operation: its inputs, if it reads them.
            #[derive(Clone, Debug)]
            struct Tracked<O, const D: usize> {
                operation: O,
                inputs: Option<Vec<Primitive>>,
            }

            impl<O: Composed<D, N, M>, const D: usize, const N: usize, const M: usize> WayBack<$backend, N, M>
                for Tracked<O, D>
            {
                fn gradients(self, needed: [bool; N], gradients: [Primitive; M]) -> [Option<Primitive>; N] {
                    let tensor = |primitive| Tensor::<D>::from_primitive::<$backend>(primitive);
                    let gradients = gradients.map(tensor);
                    let inputs = match self.inputs {
                        Some(inputs) => inputs.into_iter().map(tensor).collect(),
                        None => vec![gradients[0].clone(); N],
                    };
                    let inputs = inputs.try_into().unwrap_or_else(|_| panic!("all inputs were kept"));
                    let gradients = self.operation.gradients(needed, inputs, gradients);
                    gradients.map(|gradient| gradient.map(primitive_of))
                }
            }
        }
    };
}

tracked!(flex, burn_flex::Flex);
#[cfg(feature = "cube")]
tracked!(cube, burn_cubecl::Cube);

/// The sum of the products of each row's numbers with those of the other's row, with size 1.
pub(crate) fn dot<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Tensor<D> {
    let fused = dot_rows(a, b, 1.0).or_else(|| fused::dots(a, b));
    fused.unwrap_or_else(|| (a.clone() * b.clone()).sum_dim(D - 1))
}

/// `log(sum(exp(x)))` of each row, with size 1.
pub(crate) fn log_sum_exp<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let columns = x.dims()[D - 1];
    log_sum_exp_of(x, columns)
}

/// The same of the first columns alone.
fn log_sum_exp_of<const D: usize>(x: Tensor<D>, columns: usize) -> Tensor<D> {
    backend::log_sum_exp(&x, columns).unwrap_or_else(|| {
        let x = x.narrow(D - 1, 0, columns);
        let shift = x.clone().detach().max_dim(D - 1);
        (x - shift.clone()).exp().sum_dim(D - 1).log() + shift
    })
}

/// `softmax(scale x)` of each row. With `causal`, the dimension before holds that many queries, and query `q` sees
/// the keys `..= q` alone.
pub(crate) fn softmax<const D: usize>(x: Tensor<D>, scale: f64, causal: Option<usize>) -> Tensor<D> {
    backend::softmax(&x, scale, causal).unwrap_or_else(|| {
        let scores = match causal {
            None => x * scale,
            Some(queries) => {
                let mask = causal_mask(queries, &x);
                x * scale + mask
            }
        };
        let shift = scores.clone().detach().max_dim(D - 1);
        let exp = (scores - shift).exp();
        exp.clone() / exp.sum_dim(D - 1)
    })
}

/// Very negative above the diagonal, `[1, .., queries, keys]`, where `like` is.
fn causal_mask<const D: usize>(queries: usize, like: &Tensor<D>) -> Tensor<D> {
    const MASKED: f64 = -1e9;
    let keys = like.dims()[D - 1];
    let mask: Vec<f64> =
        (0..queries * keys).map(|i| if i % keys > i / keys { MASKED } else { 0.0 }).collect();
    let mut shape = [1; D];
    (shape[D - 2], shape[D - 1]) = (queries, keys);
    constant(mask, shape, like)
}

/// The mean of each row, with size 1.
fn mean<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    row_means(&x).unwrap_or_else(|| x.mean_dim(D - 1))
}

/// The mean of [`dot`]'s products.
fn mean_product<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Tensor<D> {
    let factor = 1.0 / a.dims()[D - 1] as f32;
    dot_rows(a, b, factor).unwrap_or_else(|| (a.clone() * b.clone()).mean_dim(D - 1))
}

/// The sum of all rows, in the shape `[1, .., n]`.
fn sum_of_rows<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let n = x.dims()[D - 1];
    let rows = x.dims().iter().product::<usize>() / n;
    let mut shape = [1; D];
    shape[D - 1] = n;
    let x = x.reshape([rows, n]);
    backend::sum_of_rows(&x).unwrap_or_else(|| x.sum_dim(0)).reshape(shape)
}
