//! Operations that pass over memory once, on the CPU, where a composition of tensor operations would
//! pass over it many times on one thread.
//!
//! A [`Kernel`] works on one row (the last dimension) of its inputs at a time, and says how the
//! gradient of an output row goes back to the input rows; [`apply`] runs the rows on all threads and
//! is an operation of autodiff. On other devices there is no fused form and the caller composes.

mod activation;
mod log_prob;
mod norm;
mod product;
mod real;
mod softmax;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use burn::tensor::{DType, Tensor};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn_backend::{AutodiffBackend, TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

pub(crate) use activation::{Activation, ActivationTangent};
pub(crate) use log_prob::{Divergence, LogProb, LogProbTangent};
pub(crate) use norm::{Normalise, NormaliseTangent};
pub(crate) use product::{Product, ProductTangent};
pub(crate) use real::Real;
pub(crate) use softmax::{Softmax, SoftmaxTangent};

/// A function of one row of each of `N` inputs, with its derivative.
pub(crate) trait Kernel<const N: usize>: Clone + Debug + Send + Sync + 'static {
    /// Length of an output row for input rows of `n`.
    fn output_len(&self, n: usize) -> usize {
        n
    }

    /// Writes the output of row number `row`.
    fn forward<E: Real>(&self, row: usize, inputs: [&[E]; N], output: &mut [E]);

    /// Writes the gradients of the inputs of row number `row`, given that of its output.
    fn backward<E: Real>(
        &self,
        row: usize,
        inputs: [&[E]; N],
        output: &[E],
        gradient: &[E],
        gradients: [&mut [E]; N],
    );
}

/// The kernel over all rows of tensors of one shape; `None` if they are not on the CPU in f32 or f64.
pub(crate) fn apply<const D: usize, const N: usize>(
    kernel: impl Kernel<N>,
    inputs: [&Tensor<D>; N],
) -> Option<Tensor<D>> {
    if !matches!(inputs[0].dtype(), DType::F32 | DType::F64) {
        return None;
    }
    if inputs.iter().all(|input| !input.is_autodiff()) {
        let inputs =
            primitives::<Flex, D, N>(inputs, |input| input.clone().try_into_primitive::<Flex>().ok())?;
        return Some(Tensor::from_primitive::<Flex>(forward(&kernel, &inputs)));
    }
    let inputs = primitives::<Autodiff<Flex>, D, N>(inputs, |input| {
        let input = input.clone();
        let input = if input.is_autodiff() { input } else { input.autodiff() };
        input.try_into_primitive::<Autodiff<Flex>>().ok()
    })?;
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the type's name is private")]
    let guards = inputs.each_ref().map(|input| input.node());
    let inputs = inputs.map(<Autodiff<Flex> as AutodiffBackend>::inner);
    let output = forward(&kernel, &inputs);
    let output = match Fused(kernel).prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((inputs, output.clone()), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(output))
}

fn primitives<B: burn_backend::Backend, const D: usize, const N: usize>(
    inputs: [&Tensor<D>; N],
    primitive: impl Fn(&Tensor<D>) -> Option<B::FloatTensorPrimitive>,
) -> Option<[B::FloatTensorPrimitive; N]> {
    let all: Option<Vec<_>> = inputs.into_iter().map(primitive).collect();
    all?.try_into().ok()
}

/// The kernel as an operation of autodiff; its state is the inputs and the output.
#[derive(Debug)]
struct Fused<K>(K);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Fused<K> {
    type State = ([FlexTensor; N], FlexTensor);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let (inputs, output) = ops.state;
        let gradients = backward(&self.0, &inputs, &output, &gradient);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

fn forward<K: Kernel<N>, const N: usize>(kernel: &K, inputs: &[FlexTensor; N]) -> FlexTensor {
    match inputs[0].dtype() {
        DType::F32 => forward_in::<f32, K, N>(kernel, inputs),
        _ => forward_in::<f64, K, N>(kernel, inputs),
    }
}

fn backward<K: Kernel<N>, const N: usize>(
    kernel: &K,
    inputs: &[FlexTensor; N],
    output: &FlexTensor,
    gradient: &FlexTensor,
) -> [FlexTensor; N] {
    match inputs[0].dtype() {
        DType::F32 => backward_in::<f32, K, N>(kernel, inputs, output, gradient),
        _ => backward_in::<f64, K, N>(kernel, inputs, output, gradient),
    }
}

/// Elements that a task works on: enough to be worth a task, few enough to stay in a core's cache.
const TASK: usize = 1 << 14;

fn forward_in<E: Real, K: Kernel<N>, const N: usize>(kernel: &K, inputs: &[FlexTensor; N]) -> FlexTensor {
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let mut shape = inputs[0].shape();
    let n = shape[shape.num_dims() - 1];
    let m = kernel.output_len(n);
    let last = shape.num_dims() - 1;
    shape[last] = m;
    let rows = slices[0].len() / n;
    let per_task = (TASK / n).max(1);
    let mut output = vec![E::zero(); rows * m];
    output.par_chunks_mut(per_task * m).enumerate().for_each(|(task, output)| {
        E::vectorised(|| {
            for (i, output) in output.chunks_exact_mut(m).enumerate() {
                let row = task * per_task + i;
                kernel.forward(row, slices.map(|slice| &slice[row * n..(row + 1) * n]), output);
            }
        });
    });
    FlexTensor::from_data(TensorData::new(output, shape))
}

fn backward_in<E: Real, K: Kernel<N>, const N: usize>(
    kernel: &K,
    inputs: &[FlexTensor; N],
    output: &FlexTensor,
    gradient: &FlexTensor,
) -> [FlexTensor; N] {
    let shape = inputs[0].shape();
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let gradient = gradient.to_contiguous();
    let (output, gradient) = (slice::<E>(output), slice::<E>(&gradient));
    let n = shape[shape.num_dims() - 1];
    let m = kernel.output_len(n);
    let per_task = (TASK / n).max(1);
    let mut gradients: [Vec<E>; N] = std::array::from_fn(|_| vec![E::zero(); slices[0].len()]);
    let mut parts = gradients.each_mut().map(|gradient| gradient.chunks_mut(per_task * n));
    let tasks = slices[0].len().div_ceil(per_task * n);
    let tasks: Vec<[&mut [E]; N]> = (0..tasks)
        .map(|_| parts.each_mut().map(|part| part.next().expect("all gradients have one length")))
        .collect();
    tasks.into_par_iter().enumerate().for_each(|(task, gradients)| {
        E::vectorised(|| {
            let rows = gradients[0].len() / n;
            let mut parts = gradients.map(|gradient| gradient.chunks_exact_mut(n));
            for row in task * per_task..task * per_task + rows {
                let gradients = parts.each_mut().map(|part| part.next().expect("a row of each"));
                kernel.backward(
                    row,
                    slices.map(|slice| &slice[row * n..(row + 1) * n]),
                    &output[row * m..(row + 1) * m],
                    &gradient[row * m..(row + 1) * m],
                    gradients,
                );
            }
        });
    });
    gradients.map(|gradient| FlexTensor::from_data(TensorData::new(gradient, shape.clone())))
}

fn slice<E: Real>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("the tensor is contiguous and of this type")
}
