//! What GPUs compute in a way of their own, in kernels of cubecl, whatever the runtime.

mod fold;
mod observer;
mod product;
mod split;

pub(crate) use fold::{Fold, fold_rows, sum_of_rows};
pub(in crate::backend) use observer::kernels;
pub(in crate::backend) use product::matmul;
