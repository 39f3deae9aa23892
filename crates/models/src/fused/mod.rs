//! Operations that pass over memory once, on the CPU, where a composition of tensor operations would
//! pass over it many times on one thread.
//!
//! An [`Operation`] runs on all threads and says how gradients go back through it; [`run`] makes it
//! an operation of autodiff. A [`Kernel`] is one that works on a row (the last dimension) at a time.
//! Other devices have the forms of [`composed`](crate::composed).

/// Calls a function with a zero of the type of a tensor's numbers, f32 or f64.
macro_rules! typed {
    ($tensor:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match burn_backend::TensorMetadata::dtype($tensor) {
            burn_backend::DType::F32 => $function(0f32, $($argument),*),
            _ => $function(0f64, $($argument),*),
        }
    };
}

/// Runs a loop over numbers of a type with the widest vector instructions that the processor has. What the loop calls has to
/// be `#[inline(always)]`: a function that stays one has the instructions that every processor has.
macro_rules! vectorised {
    ($number:ty, $work:expr) => {
        <$number as crate::fused::Real>::vectorised(
            #[inline(always)]
            || $work,
        )
    };
}

mod activation;
mod attention;
mod cached;
#[cfg(test)]
mod compare;
mod fill;
mod gated;
mod gemm;
mod linear;
mod log_prob;
mod lookup;
mod norm;
mod real;
mod rotation;
mod rows;
mod softmax;
mod sweep;
#[cfg(test)]
mod tests;
mod widen;

use std::fmt::Debug;

use burn::tensor::{DType, Tensor};
use burn_autodiff::Autodiff;
use burn_backend::{AutodiffBackend, TensorData};
use burn_flex::{Flex, FlexTensor};

use gemm::{Threads, View};

use crate::{
    autodiff::{WayBack, track},
    device::backend_of,
};

pub(crate) use activation::{Activation, ActivationDual};
pub(crate) use attention::{Attention, AttentionDual};
pub(crate) use cached::{CachedRow, cached_attention};
#[cfg(test)]
pub(crate) use compare::as_elsewhere;
pub(crate) use gated::{Gated, GatedDual};
pub(crate) use linear::{Linear, LinearDual};
pub(crate) use log_prob::{Divergence, LogProb, log_probs};
pub(crate) use lookup::Lookup;
pub(crate) use norm::{Norm, NormDual, Normalise};
pub use real::Real;
pub(crate) use real::exponentials;
pub(crate) use rotation::Rotation;
pub(crate) use rows::{Kernel, Rows, dots};
pub(crate) use softmax::{Softmax, SoftmaxTangent};
pub(crate) use sweep::zeros;
pub use sweep::{Sweep, can_sweep, sweep, zeros_like};
pub use widen::FEW_ROWS;
pub(crate) use widen::widened_to;

/// A function of `N` tensors on the CPU, with its derivative; `M` tensors, a value and its tangent where there are two.
pub(crate) trait Operation<const N: usize, const M: usize = 1>:
    Clone + Debug + Send + 'static
{
    /// Whether [`backward`](Self::backward) reads the outputs; they are kept for that alone.
    const READS_OUTPUTS: bool = false;

    /// The outputs.
    fn forward(&self, inputs: &[FlexTensor; N]) -> [FlexTensor; M];

    /// Gradients of the inputs that are `needed`, given those of the outputs.
    fn backward(
        &self,
        needed: [bool; N],
        inputs: &[FlexTensor; N],
        outputs: Option<&[FlexTensor; M]>,
        gradients: [&FlexTensor; M],
    ) -> [Option<FlexTensor>; N];

    /// Whether it takes inputs of a type.
    fn takes(&self, dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::F64)
    }

    /// Whether an input may be of a narrower type than the others: a frozen weight, [`widened`] where it is read.
    fn widens(&self, _input: usize) -> bool {
        false
    }
}

/// The kernel over all rows of tensors of one shape; `None` if they are not on the CPU in f32 or f64.
pub(crate) fn apply<const D: usize, const N: usize, const M: usize>(
    kernel: impl Kernel<N, M>,
    inputs: [&Tensor<D>; N],
) -> Option<[Tensor<D>; M]> {
    run(Rows(kernel), inputs)
}

/// The operation's outputs; `None` if its inputs are not all on the CPU, of one type that it takes.
pub(crate) fn run<O: Operation<N, M>, const D: usize, const N: usize, const M: usize>(
    operation: O,
    inputs: [&Tensor<D>; N],
) -> Option<[Tensor<D>; M]> {
    let dtype = inputs[0].dtype();
    if is_off() || !operation.takes(dtype) || !are_alike(inputs, |input| operation.widens(input)) {
        return None;
    }
    if inputs.iter().all(|input| !input.is_autodiff()) {
        return Some(operation.forward(&plain(inputs)?).map(Tensor::from_primitive::<Flex>));
    }
    let inputs = primitives::<Autodiff<Flex>, D, N>(inputs, |input| {
        let input = input.clone();
        let input = if input.is_autodiff() { input } else { input.autodiff() };
        input.try_into_primitive::<Autodiff<Flex>>().ok()
    })?;
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the type's name is private")]
    let guards = inputs.each_ref().map(|input| input.node());
    let inputs = inputs.map(<Autodiff<Flex> as AutodiffBackend>::inner);
    let outputs = operation.forward(&inputs);
    let way_back = Fused { operation, inputs, outputs: O::READS_OUTPUTS.then(|| outputs.clone()) };
    let outputs = track::<Flex, _, N, M>(guards, way_back, outputs);
    Some(outputs.map(Tensor::from_primitive::<Autodiff<Flex>>))
}

/// Whether operations on a tensor are fused: it is on the CPU in f32 or f64.
pub(crate) fn is_here<const D: usize>(tensor: &Tensor<D>) -> bool {
    let is_on_cpu = backend_of(&tensor.device().without_autodiff()).fuses();
    is_on_cpu && matches!(tensor.dtype(), DType::F32 | DType::F64) && !is_off()
}

/// `a b` of matrices on the CPU that are not tracked. What is in `plus`, of the product's shape, is added, and the sum lies
/// where that did if nobody else has it.
pub(crate) fn product<const D: usize>(
    a: &Tensor<D>,
    b: &Tensor<D>,
    plus: &mut Option<Tensor<D>>,
) -> Option<Tensor<D>> {
    let sides = [a.dims()[0], b.dims()[D - 1], a.dims()[D - 1]];
    let fits = |plus: &Tensor<D>| plus.dims()[..] == sides[..2] && plus.dtype() == a.dtype();
    let is_ours = D == 2 && !is_off() && a.dtype() == b.dtype() && !sides.contains(&0);
    if !is_ours || !matches!(a.dtype(), DType::F32 | DType::F64) || !plus.as_ref().is_none_or(fits) {
        return None;
    }
    let [a, b] = plain([a, b])?;
    let plus = match plus.take() {
        None => None,
        Some(plus) => Some(plus.try_into_primitive::<Flex>().ok()?),
    };
    Some(Tensor::from_primitive::<Flex>(typed!(&a, product_onto(&a, &b, plus))))
}

fn product_onto<E: Real>(_: E, a: &FlexTensor, b: &FlexTensor, plus: Option<FlexTensor>) -> FlexTensor {
    let (a, b) = (View::<E>::of(a), View::of(b));
    let [rows, columns] = [a.shape[0], b.shape[1]];
    let Some(plus) = plus else {
        return FlexTensor::from_data(TensorData::new(gemm::product(a, b), [rows, columns]));
    };
    let mut sum = plus.to_contiguous();
    drop(plus);
    gemm::multiply(sum.storage_mut(), columns, true, E::one(), a, b, Threads::All);
    sum
}

/// Whether tensors are of the first one's type, but for those that may be of a narrower one.
fn are_alike<const D: usize, const N: usize>(
    inputs: [&Tensor<D>; N],
    widens: impl Fn(usize) -> bool,
) -> bool {
    let dtype = inputs[0].dtype();
    (0..N).all(|input| inputs[input].dtype() == dtype || widens(input))
}

/// Tensors on the CPU that are not tracked.
fn plain<const D: usize, const N: usize>(inputs: [&Tensor<D>; N]) -> Option<[FlexTensor; N]> {
    primitives::<Flex, D, N>(inputs, |input| input.clone().try_into_primitive::<Flex>().ok())
}

/// Tests ask for what other devices compute; see `compare.rs`.
fn is_off() -> bool {
    #[cfg(test)]
    return compare::composed();
    #[cfg(not(test))]
    false
}

fn primitives<B: burn_backend::Backend, const D: usize, const N: usize>(
    inputs: [&Tensor<D>; N],
    primitive: impl Fn(&Tensor<D>) -> Option<B::FloatTensorPrimitive>,
) -> Option<[B::FloatTensorPrimitive; N]> {
    let all: Option<Vec<_>> = inputs.into_iter().map(primitive).collect();
    all?.try_into().ok()
}

/// The way back through an operation: its inputs and, if it reads them, its outputs.
#[derive(Clone, Debug)]
struct Fused<O, const N: usize, const M: usize> {
    operation: O,
    inputs: [FlexTensor; N],
    outputs: Option<[FlexTensor; M]>,
}

impl<O: Operation<N, M>, const N: usize, const M: usize> WayBack<Flex, N, M> for Fused<O, N, M> {
    fn gradients(self, needed: [bool; N], gradients: [FlexTensor; M]) -> [Option<FlexTensor>; N] {
        self.operation.backward(needed, &self.inputs, self.outputs.as_ref(), gradients.each_ref())
    }
}

/// Elements of a contiguous tensor.
fn slice<E: Real>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("the tensor is contiguous and of this type")
}
