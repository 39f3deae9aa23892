//! What GPUs compute in a way of their own, in kernels of cubecl, whatever the runtime.

mod observer;
mod product;
mod split;

pub(in crate::backend) use observer::kernels;
pub(in crate::backend) use product::matmul;
