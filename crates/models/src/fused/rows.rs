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

/// A function of one row of each of `N` inputs, with its derivative; a row of each of `M` outputs.
pub(crate) trait Kernel<const N: usize, const M: usize = 1>:
    Clone + Debug + Send + Sync + 'static
{
    /// Whether [`backward`](Self::backward) reads the outputs.
    const READS_OUTPUTS: bool = false;

    /// Length of an output row for input rows of `n`.
    fn output_len(&self, n: usize) -> usize {
        n
    }

    /// Writes the outputs of row number `row`.
    fn forward<E: Real>(&self, row: usize, inputs: [&[E]; N], outputs: [&mut [E]; M]);

    /// Writes the gradients of the inputs of row number `row`, given those of its outputs, which are empty unless they are
    /// read.
    fn backward<E: Real>(
        &self,
        row: usize,
        inputs: [&[E]; N],
        outputs: [&[E]; M],
        gradients: [&[E]; M],
        to_inputs: [&mut [E]; N],
    );
}

/// A kernel over all rows of tensors of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Rows<K>(pub(crate) K);

impl<K: Kernel<N, M>, const N: usize, const M: usize> Operation<N, M> for Rows<K> {
    const READS_OUTPUTS: bool = K::READS_OUTPUTS;

    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; M] {
        typed!(&inputs[0], forward(&self.0, inputs))
    }

    fn backward(
        &self,
        _: [bool; N],
        inputs: &[FlexTensor; N],
        outputs: Option<&[FlexTensor; M]>,
        gradients: [&FlexTensor; M],
    ) -> [Option<FlexTensor>; N] {
        typed!(gradients[0], backward(&self.0, inputs, outputs, gradients)).map(Some)
    }
}

/// Elements that a task works on: enough to be worth a task, few enough to stay in a core's cache.
pub(super) const TASK: usize = 1 << 14;

fn forward<E: Real, K: Kernel<N, M>, const N: usize, const M: usize>(
    _: E,
    kernel: &K,
    inputs: &[FlexTensor; N],
) -> [FlexTensor; M] {
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let mut shape = inputs[0].shape();
    let n = shape[shape.num_dims() - 1];
    let m = kernel.output_len(n);
    let last = shape.num_dims() - 1;
    shape[last] = m;
    let rows = slices[0].len() / n;
    let per_task = (TASK / n).max(1);
    let (outputs, _) = fill([rows * m; M], [per_task * m; M], |task, outputs| {
        vectorised!(E, {
            let first = task * per_task;
            each_row(
                outputs,
                m,
                #[inline(always)]
                |row, outputs| {
                    let row = first + row;
                    kernel.forward(row, slices.map(|slice| &slice[row * n..(row + 1) * n]), outputs);
                },
            );
        });
    });
    outputs.map(|output| FlexTensor::from_data(TensorData::new(output, shape.clone())))
}

fn backward<E: Real, K: Kernel<N, M>, const N: usize, const M: usize>(
    _: E,
    kernel: &K,
    inputs: &[FlexTensor; N],
    outputs: Option<&[FlexTensor; M]>,
    gradients: [&FlexTensor; M],
) -> [FlexTensor; N] {
    let shape = inputs[0].shape();
    let contiguous = inputs.each_ref().map(FlexTensor::to_contiguous);
    let slices = contiguous.each_ref().map(slice::<E>);
    let gradients = gradients.map(FlexTensor::to_contiguous);
    let gradients = gradients.each_ref().map(slice::<E>);
    let outputs = outputs.map(|outputs| outputs.each_ref().map(slice::<E>));
    let n = shape[shape.num_dims() - 1];
    let m = kernel.output_len(n);
    let per_task = (TASK / n).max(1);
    let (to_inputs, _) = fill([slices[0].len(); N], [per_task * n; N], |task, to_inputs| {
        vectorised!(E, {
            let first = task * per_task;
            each_row(
                to_inputs,
                n,
                #[inline(always)]
                |row, to_inputs| {
                    let row = first + row;
                    let place = row * m..(row + 1) * m;
                    kernel.backward(
                        row,
                        slices.map(|slice| &slice[row * n..(row + 1) * n]),
                        outputs.map_or([&[]; M], |outputs| outputs.map(|slice| &slice[place.clone()])),
                        gradients.map(|slice| &slice[place.clone()]),
                        to_inputs,
                    );
                },
            );
        });
    });
    to_inputs.map(|gradient| FlexTensor::from_data(TensorData::new(gradient, shape.clone())))
}

/// Calls a function with each row of `n` numbers of some parts of vectors, and its number among them.
#[inline(always)]
pub(super) fn each_row<E, const N: usize>(
    parts: [&mut [E]; N],
    n: usize,
    mut work: impl FnMut(usize, [&mut [E]; N]),
) {
    let rows = parts[0].len() / n;
    let mut parts = parts.map(|part| part.chunks_exact_mut(n));
    for row in 0..rows {
        work(row, parts.each_mut().map(|part| part.next().expect("a row of each")));
    }
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
