//! What is differentiated, where its gradients were found along with it.

use burn::tensor::{Gradients, Tensor};

use super::{Composed, compose};

/// What is differentiated, as a whole: nothing else can be made of it.
#[derive(Debug)]
pub struct Objective(Tensor<1>);

impl Objective {
    /// A number that is tracked, `[1]`.
    pub fn new(number: Tensor<1>) -> Self {
        Self(number)
    }

    /// One whose gradients in some tensors, tracked or not, are known; those of `None` are zero.
    pub(crate) fn known<const N: usize>(inputs: [&Tensor<2>; N], gradients: [Option<Tensor<2>>; N]) -> Self {
        let [number] = compose(Known { gradients }, inputs.map(Clone::clone));
        Self(number.reshape([1]))
    }

    /// Gradients of the tracked leaves that it depends on.
    pub fn backward(self) -> Gradients {
        self.0.backward()
    }
}

/// Gradients of a number that nobody reads.
#[derive(Clone, Debug)]
struct Known<const N: usize> {
    gradients: [Option<Tensor<2>>; N],
}

impl<const N: usize> Composed<2, N> for Known<N> {
    const READS_INPUTS: bool = false;

    fn value(&self, inputs: [Tensor<2>; N]) -> [Tensor<2>; 1] {
        [Tensor::zeros([1, 1], (&inputs[0].device(), inputs[0].dtype()))]
    }

    /// What comes back to an [`Objective`] is 1.
    fn gradients(&self, _: [bool; N], _: [Tensor<2>; N], _: [Tensor<2>; 1]) -> [Option<Tensor<2>>; N] {
        self.gradients.clone()
    }
}
