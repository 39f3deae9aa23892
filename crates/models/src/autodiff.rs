//! Operations of autodiff with any number of outputs; burn's have one.
//!
//! What has several is a node, and behind it one for each output. Those put the gradients that come back to them aside,
//! and the first of them sends its own on: so the operation's turn comes once all its outputs had theirs.

use std::{
    array::from_fn,
    fmt::Debug,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn_backend::{Backend, Shape, TensorMetadata, tensor::FloatTensor};

/// How gradients go back through an operation of `N` inputs and `M` outputs, with all that it needs for it.
pub(crate) trait WayBack<B: Backend, const N: usize, const M: usize>:
    Clone + Debug + Send + 'static
{
    /// Gradients of the inputs that are `needed`, given those of the outputs.
    fn gradients(self, needed: [bool; N], gradients: [FloatTensor<B>; M]) -> [Option<FloatTensor<B>>; N];
}

/// The outputs of an operation, tracked if one of its inputs is.
pub(crate) fn track<B: Backend, W: WayBack<B, N, M>, const N: usize, const M: usize>(
    inputs: [NodeGuard; N],
    way_back: W,
    outputs: [FloatTensor<B>; M],
) -> [FloatTensor<Autodiff<B>>; M] {
    let aside = Aside::of(&outputs);
    let operation = Operation::<W, M>(PhantomData).prepare::<NoCheckpointing>(inputs).compute_bound();
    let first = outputs[0].clone();
    let operation = match operation.stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((way_back, aside.clone()), first),
        OpsKind::UnTracked(prepared) => prepared.finish(first),
    };
    if M == 1 {
        return from_fn(|_| operation.clone());
    }
    let mut outputs = outputs.into_iter().enumerate();
    from_fn(|_| {
        let (index, output) = outputs.next().expect("as many nodes as outputs");
        let node = Output::<M>(index).prepare::<NoCheckpointing>([operation.node()]).compute_bound();
        match node.stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(aside.clone(), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    })
}

/// Gradients of an operation's outputs until its turn comes.
#[derive(Clone, Debug)]
struct Aside<P, const M: usize> {
    gradients: Arc<Mutex<[Option<P>; M]>>,
    shapes: [Shape; M],
}

impl<P: TensorMetadata, const M: usize> Aside<P, M> {
    fn of(outputs: &[P; M]) -> Self {
        Self {
            gradients: Arc::new(Mutex::new([const { None }; M])),
            shapes: outputs.each_ref().map(TensorMetadata::shape),
        }
    }

    /// Puts an output's gradient aside; whether it is the first.
    fn put(&self, output: usize, gradient: P) -> bool {
        let mut gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = gradients.iter().all(Option::is_none);
        gradients[output] = Some(gradient);
        is_first
    }

    /// All gradients; zeros like `one` where none came back.
    fn take<B: Backend<FloatTensorPrimitive = P, Device = P::Device>>(&self, one: &P) -> [P; M] {
        let mut gradients = self.gradients.lock().unwrap_or_else(PoisonError::into_inner);
        from_fn(|output| {
            let zeros = || B::float_zeros(self.shapes[output].clone(), &one.device(), one.dtype().into());
            gradients[output].take().unwrap_or_else(zeros)
        })
    }
}

/// The node of an operation.
#[derive(Debug)]
struct Operation<W, const M: usize>(PhantomData<fn() -> W>);

impl<B: Backend, W: WayBack<B, N, M>, const N: usize, const M: usize> Backward<B, N> for Operation<W, M> {
    type State = (W, Aside<FloatTensor<B>, M>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (way_back, aside) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        let gradients = if M == 1 {
            let mut only = Some(gradient);
            from_fn(|_| only.take().expect("there is one output"))
        } else {
            aside.take::<B>(&gradient)
        };
        let needed = ops.parents.each_ref().map(Option::is_some);
        let gradients = way_back.gradients(needed, gradients);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// The node of one of several outputs.
#[derive(Debug)]
struct Output<const M: usize>(usize);

impl<B: Backend, const M: usize> Backward<B, 1> for Output<M> {
    type State = Aside<FloatTensor<B>, M>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [operation] = ops.parents;
        if ops.state.put(self.0, gradient.clone())
            && let Some(operation) = operation
        {
            grads.register::<B>(operation.id, gradient);
        }
    }
}
