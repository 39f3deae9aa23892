//! Passes over flat vectors, chunk by chunk, on all threads.

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::{Real, fill::fill_one, gemm, rows::TASK, slice};

/// A computation over the elements of flat vectors `[n]`, each by itself.
pub trait Sweep: Sync {
    /// Changes a chunk of every vector of `write`, given the same chunk of every vector of `read`; it begins
    /// at element `first` of the vectors.
    fn chunk<E: Real>(&self, first: usize, read: &[&[E]], write: &mut [&mut [E]]);
}

/// Whether [`sweep`] takes a vector: it lies on the CPU in f32 or f64 and is not tracked.
pub fn can_sweep(vector: &Tensor<1>) -> bool {
    matches!(vector.dtype(), DType::F32 | DType::F64)
        && !vector.is_autodiff()
        && vector.clone().try_into_primitive::<Flex>().is_ok()
}

/// Passes once over vectors `[n]` of one type that [`can_sweep`] accepts. `write` is changed in place where
/// nobody else holds it; what somebody holds is copied first.
pub fn sweep(read: &[&Tensor<1>], write: Vec<Tensor<1>>, by: &impl Sweep) -> Vec<Tensor<1>> {
    let dtype = write[0].dtype();
    let primitive = |vector: Tensor<1>| {
        vector.try_into_primitive::<Flex>().unwrap_or_else(|_| unreachable!("`can_sweep` was asked"))
    };
    let read: Vec<_> = read.iter().map(|&vector| primitive(vector.clone()).to_contiguous()).collect();
    let write = write.into_iter().map(primitive).collect();
    let written = match dtype {
        DType::F32 => chunks::<f32>(&read, write, by),
        _ => chunks::<f64>(&read, write, by),
    };
    written.into_iter().map(Tensor::from_primitive::<Flex>).collect()
}

/// Zeros of the shape, type and device of a vector `[n]`.
pub fn zeros_like(vector: &Tensor<1>) -> Tensor<1> {
    zeros(vector.dims()[0], vector)
}

/// Zeros `[n]` of the type and device of `like`. burn's own are written twice on the CPU, by one thread, for an
/// alignment that nobody needs.
pub(crate) fn zeros(n: usize, like: &Tensor<1>) -> Tensor<1> {
    let place = (&like.device(), like.dtype());
    match like.dtype() {
        DType::F32 if can_sweep(like) => {
            Tensor::from_data(TensorData::new(gemm::zeros::<f32>(n), [n]), place)
        }
        DType::F64 if can_sweep(like) => {
            Tensor::from_data(TensorData::new(gemm::zeros::<f64>(n), [n]), place)
        }
        _ => Tensor::zeros([n], place),
    }
}

/// A vector that can be changed in place: it is all of its storage, and nobody else holds it. Any other is copied by
/// all threads.
fn own<E: Real>(given: FlexTensor) -> FlexTensor {
    let vector = given.to_contiguous();
    drop(given);
    let n = vector.layout().num_elements();
    if vector.bytes().len() == n * vector.dtype().size() && vector.is_unique() {
        return vector;
    }
    let numbers = slice::<E>(&vector);
    let copy = fill_one(n, TASK, |task, part| part.copy_from_slice(&numbers[task * TASK..][..part.len()]));
    FlexTensor::from_data(TensorData::new(copy, [n]))
}

fn chunks<E: Real>(read: &[FlexTensor], write: Vec<FlexTensor>, by: &impl Sweep) -> Vec<FlexTensor> {
    let mut write: Vec<_> = write.into_iter().map(own::<E>).collect();
    let read: Vec<&[E]> = read.iter().map(slice::<E>).collect();
    let n = write[0].layout().num_elements();
    let mut parts: Vec<_> =
        write.iter_mut().map(|vector| vector.storage_mut::<E>().chunks_mut(TASK)).collect();
    let tasks: Vec<Vec<&mut [E]>> = (0..n.div_ceil(TASK))
        .map(|_| parts.iter_mut().map(|part| part.next().expect("vectors of one length")).collect())
        .collect();
    tasks.into_par_iter().enumerate().for_each(|(task, mut write)| {
        let range = task * TASK..task * TASK + write[0].len();
        let read: Vec<&[E]> = read.iter().map(|vector| &vector[range.clone()]).collect();
        vectorised!(E, by.chunk(range.start, &read, &mut write));
    });
    write
}
