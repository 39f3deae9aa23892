//! Operations that work on one row (the last dimension) at a time.

use std::fmt::Debug;

use burn::tensor::Tensor;
use burn_backend::{TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};

use super::{
    Operation, Real,
    fill::{fill, fill_one},
    is_here, plain,
    real::sum,
    slice,
};

/// A function of one row of each of `N` inputs, with its derivative.
pub(crate) trait Kernel<const N: usize>: Clone + Debug + Send + Sync + 'static {
    /// Whether [`backward`](Self::backward) reads the output.
    const READS_OUTPUT: bool = false;

    /// Length of an output row for input rows of `n`.
    fn output_len(&self, n: usize) -> usize {
        n
    }

    /// Writes the output of row number `row`.
    fn forward<E: Real>(&self, row: usize, inputs: [&[E]; N], output: &mut [E]);

    /// Writes the gradients of the inputs of row number `row`, given that of its output, which is empty unless
    /// it is read.
    fn backward<E: Real>(
        &self,
        row: usize,
        inputs: [&[E]; N],
        output: &[E],
        gradient: &[E],
        gradients: [&mut [E]; N],
    );
}

/// A kernel over all rows of tensors of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Rows<K>(pub(crate) K);

impl<K: Kernel<N>, const N: usize> Operation<N> for Rows<K> {
    const READS_OUTPUT: bool = K::READS_OUTPUT;

    fn forward(&self, inputs: &[FlexTensor; N]) -> FlexTensor {
        typed!(&inputs[0], forward(&self.0, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        output: Option<&FlexTensor>,
        gradient: &FlexTensor,
    ) -> [Option<FlexTensor>; N] {
        typed!(gradient, backward(&self.0, inputs, output, gradient)).map(Some)
    }
}

/// Elements that a task works on: enough to be worth a task, few enough to stay in a core's cache.
pub(super) const TASK: usize = 1 << 14;

fn forward<E: Real, K: Kernel<N>, const N: usize>(_: E, kernel: &K, inputs: &[FlexTensor; N]) -> FlexTensor {
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let mut shape = inputs[0].shape();
    let n = shape[shape.num_dims() - 1];
    let m = kernel.output_len(n);
    let last = shape.num_dims() - 1;
    shape[last] = m;
    let rows = slices[0].len() / n;
    let per_task = (TASK / n).max(1);
    let output = fill_one::<E>(rows * m, per_task * m, |task, output| {
        vectorised!(E, {
            for (i, output) in output.chunks_exact_mut(m).enumerate() {
                let row = task * per_task + i;
                kernel.forward(row, slices.map(|slice| &slice[row * n..(row + 1) * n]), output);
            }
        });
    });
    FlexTensor::from_data(TensorData::new(output, shape))
}

fn backward<E: Real, K: Kernel<N>, const N: usize>(
    _: E,
    kernel: &K,
    inputs: &[FlexTensor; N],
    output: Option<&FlexTensor>,
    gradient: &FlexTensor,
) -> [FlexTensor; N] {
    let shape = inputs[0].shape();
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let gradient = gradient.to_contiguous();
    let (output, gradient) = (output.map(slice::<E>), slice::<E>(&gradient));
    let n = shape[shape.num_dims() - 1];
    let m = kernel.output_len(n);
    let per_task = (TASK / n).max(1);
    let (gradients, _) = fill([slices[0].len(); N], [per_task * n; N], |task, gradients| {
        vectorised!(E, {
            let rows = gradients[0].len() / n;
            let mut parts = gradients.map(|gradient| gradient.chunks_exact_mut(n));
            for row in task * per_task..task * per_task + rows {
                let gradients = parts.each_mut().map(|part| part.next().expect("a row of each"));
                kernel.backward(
                    row,
                    slices.map(|slice| &slice[row * n..(row + 1) * n]),
                    output.map_or(&[], |output| &output[row * m..(row + 1) * m]),
                    &gradient[row * m..(row + 1) * m],
                    gradients,
                );
            }
        });
    });
    gradients.map(|gradient| FlexTensor::from_data(TensorData::new(gradient, shape.clone())))
}

/// The sum of the products of each row's numbers with those of the other's row, with size 1, on the CPU; `None` for tensors
/// that are tracked.
pub(crate) fn dots<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<Tensor<D>> {
    if !is_here(a) || a.dims() != b.dims() || a.dtype() != b.dtype() {
        return None;
    }
    let [a, b] = plain([a, b])?;
    Some(Tensor::from_primitive::<Flex>(typed!(&a, dots_of(&a, &b))))
}

fn dots_of<E: Real>(_: E, a: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let mut shape = a.shape();
    let last = shape.num_dims() - 1;
    let n = std::mem::replace(&mut shape[last], 1);
    let [a, b] = [a, b].map(FlexTensor::to_contiguous);
    let slices = [slice::<E>(&a), slice::<E>(&b)];
    let per_task = (TASK / n).max(1);
    let output = fill_one::<E>(slices[0].len() / n, per_task, |task, output| {
        vectorised!(E, {
            for (i, output) in output.iter_mut().enumerate() {
                let row = task * per_task + i;
                *output = sum(slices.map(|slice| &slice[row * n..(row + 1) * n]), |[a, b]| a * b);
            }
        });
    });
    FlexTensor::from_data(TensorData::new(output, shape))
}
