//! What GPUs compute in a way of their own, in kernels of cubecl, whatever the runtime.
//!
//! Everything else is burn's, which fuses neighbouring elementwise operations into one kernel.

mod fold;
mod observer;
mod product;
mod split;
mod usage;

use std::sync::Once;

use burn::{
    BurnConfig,
    backend::{Backend, backend_extension, tensor::FloatTensor},
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::config::RuntimeConfig;
use serde_json::json;

use crate::MatmulPrecision;

pub(crate) use fold::{Fold, dot_rows, fold_rows, sum_of_rows};
pub(in crate::backend) use observer::kernels;
pub(in crate::backend) use product::matmul;
pub(in crate::backend) use usage::usage;

/// Sets fusion up, before the first device is opened: operations are fused as they come. burn looks for several kernels at
/// once otherwise, and where those depend on one another, as here, gives all of them up.
pub(in crate::backend) fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        let settings = json!({ "fusion": { "beam_search": { "max_blocks": 1 } } });
        let settings: BurnConfig = serde_json::from_value(settings).expect("burn has this setting");
        if !BurnConfig::try_set(settings) {
            tracing::warn!("burn was set up before, and fuses less");
        }
    });
}

/// The operations as burn's fusion sees them: it defers them like its own, and leaves them whole.
#[backend_extension(Cube, Fusion)]
trait Kernels: Backend {
    /// Each row, along the last dimension, to size 1.
    #[fusion(dtype = x, shape = fold::shape_of_rows(x))]
    fn fold_rows(x: FloatTensor<Self>, fold: Fold) -> FloatTensor<Self>;

    /// The sum of the products of each row's numbers with those of the other's row.
    #[fusion(dtype = a, shape = fold::shape_of_rows(a))]
    fn dot_rows(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sum of all rows of `[rows, columns]`, `[1, columns]`.
    #[fusion(dtype = x, shape = fold::shape_of_sum(x))]
    fn sum_of_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `a b`, batched over leading dimensions.
    #[fusion(dtype = a, shape = product::shape(a, b))]
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>, precision: MatmulPrecision) -> FloatTensor<Self>;
}

impl Kernels for CubeBackend {
    fn fold_rows(x: CubeTensor, fold: Fold) -> CubeTensor {
        fold::rows(x, None, fold)
    }

    fn dot_rows(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        fold::rows(a, Some(b), Fold::Sum)
    }

    fn sum_of_rows(x: CubeTensor) -> CubeTensor {
        fold::columns(x)
    }

    fn product(a: CubeTensor, b: CubeTensor, precision: MatmulPrecision) -> CubeTensor {
        product::product(a, b, precision)
    }
}
