//! Operations whose gradients are found along with the output, since what will come back to it is known. Nothing is
//! kept for a way back then, or computed twice.

use std::fmt::Debug;

use burn::tensor::{Gradients, Tensor};
use burn_flex::FlexTensor;

use super::{Composed, compose};
use crate::{MatmulPrecision, fused};

/// What will come back to an output, and the inputs that it is to go on to.
#[derive(Clone, Debug)]
pub(crate) struct Back<T, const N: usize> {
    pub(crate) gradient: T,
    pub(crate) needed: [bool; N],
}

impl<T, const N: usize> Back<T, N> {
    /// The inputs that gradients go on to: none if nothing comes back.
    pub(crate) fn needed(back: Option<&Self>) -> [bool; N] {
        back.map_or([false; N], |back| back.needed)
    }
}

/// An output, and gradients of the inputs that need one.
pub(crate) type Found<T, const N: usize> = (T, [Option<T>; N]);

/// A function of `N` matrices and its derivative in one go. No tensor here is tracked.
pub(crate) trait AtOnce<const N: usize> {
    /// On the CPU.
    fn fused(&self, inputs: &[FlexTensor; N], back: Option<Back<FlexTensor, N>>) -> Found<FlexTensor, N>;

    /// Elsewhere.
    fn composed(&self, inputs: [Tensor<2>; N], back: Option<Back<Tensor<2>, N>>) -> Found<Tensor<2>, N>;

    /// Whether an input may be of a narrower type than the others.
    fn widens(&self, input: usize) -> bool;

    /// Of its products; only f32 is fused.
    fn precision(&self) -> MatmulPrecision;
}

/// What is differentiated, as a whole: nothing else can be made of it.
#[derive(Debug)]
pub struct Objective(Tensor<1>);

impl Objective {
    /// A number that is tracked, `[1]`.
    pub fn new(number: Tensor<1>) -> Self {
        Self(number)
    }

    /// Gradients of the tracked leaves that it depends on.
    pub fn backward(self) -> Gradients {
        self.0.backward()
    }
}

/// The operation's output, which is not tracked. With `back`, also an objective whose gradients are those that `back`
/// leads to.
pub(crate) fn find<O: AtOnce<N>, const N: usize>(
    operation: &O,
    inputs: [&Tensor<2>; N],
    back: Option<Back<Tensor<2>, N>>,
) -> (Tensor<2>, Option<Objective>) {
    let plain = inputs.map(|input| if input.is_autodiff() { input.clone().inner() } else { input.clone() });
    let fused = match operation.precision() {
        MatmulPrecision::F32 => fused::at_once(operation, plain.each_ref(), back.as_ref()),
        _ => None,
    };
    let is_asked = back.is_some();
    let (output, gradients) = fused.unwrap_or_else(|| operation.composed(plain.clone(), back));
    let objective = is_asked.then(|| {
        let number = compose(Known { gradients }, inputs.map(Clone::clone));
        Objective(number.reshape([1]))
    });
    (output, objective)
}

/// Gradients of a number that nobody reads.
#[derive(Clone, Debug)]
struct Known<const N: usize> {
    gradients: [Option<Tensor<2>>; N],
}

impl<const N: usize> Composed<2, N> for Known<N> {
    fn value(&self, inputs: [Tensor<2>; N]) -> Tensor<2> {
        Tensor::zeros([1, 1], (&inputs[0].device(), inputs[0].dtype()))
    }

    /// What comes back to an [`Objective`] is 1.
    fn gradients(
        &self,
        _: [bool; N],
        _: [Tensor<2>; N],
        _: Option<Tensor<2>>,
        _: Tensor<2>,
    ) -> [Option<Tensor<2>>; N] {
        self.gradients.clone()
    }
}
