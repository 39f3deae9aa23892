//! What GPUs compute in a way of their own, in kernels of cubecl, whatever the runtime.
//!
//! Everything else is burn's, which fuses neighbouring elementwise operations into one kernel.

#[cfg(feature = "cuda")]
mod cublas;
mod norm;
mod observer;
mod part;
mod product;
mod rotation;
mod softmax;
mod sums;
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

pub(crate) use norm::{inverse_deviations, normalised};
pub(in crate::backend) use observer::kernels;
pub(crate) use part::part;
pub(in crate::backend) use product::matmul;
pub(crate) use rotation::rotated;
pub(crate) use softmax::{log_sum_exp, softmax};
pub(crate) use sums::{dot_rows, row_means, sum_of_rows};
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
    /// The mean of each row, along the last dimension.
    #[fusion(dtype = x, shape = sums::shape_of_rows(x))]
    fn row_means(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sum of the products of each row's numbers with those of the other's row, times a factor.
    #[fusion(dtype = a, shape = sums::shape_of_rows(a))]
    fn dot_rows(a: FloatTensor<Self>, b: FloatTensor<Self>, factor: f32) -> FloatTensor<Self>;

    /// The sum of all rows of `[rows, columns]`, `[1, columns]`.
    #[fusion(dtype = x, shape = sums::shape_of_sum(x))]
    fn sum_of_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `log(sum(exp(x)))` of the first columns of each row.
    #[fusion(dtype = x, shape = sums::shape_of_rows(x))]
    fn log_sum_exp(x: FloatTensor<Self>, columns: usize) -> FloatTensor<Self>;

    /// `softmax(scale x)` of each row, causal or not.
    #[fusion(dtype = x, shape = x)]
    fn softmax(x: FloatTensor<Self>, scale: f32, causal: Option<usize>) -> FloatTensor<Self>;

    /// Rows of mean 0 and mean square 1.
    #[fusion(dtype = x, shape = x)]
    fn normalised(x: FloatTensor<Self>, is_centred: bool, epsilon: f32) -> FloatTensor<Self>;

    /// What each row was multiplied by for that.
    #[fusion(dtype = x, shape = sums::shape_of_rows(x))]
    fn inverse_deviations(x: FloatTensor<Self>, is_centred: bool, epsilon: f32) -> FloatTensor<Self>;

    /// Some neighbours in a flat vector.
    #[fusion(dtype = x, shape = burn_backend::Shape::from(vec![length]))]
    fn part(x: FloatTensor<Self>, first: usize, length: usize) -> FloatTensor<Self>;

    /// Heads turned by the angles of their positions, or turned back.
    #[fusion(dtype = x, shape = x)]
    fn rotated(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        is_back: bool,
    ) -> FloatTensor<Self>;

    /// `a b`, batched over leading dimensions.
    #[fusion(dtype = a, shape = product::shape(a, b))]
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>, precision: MatmulPrecision) -> FloatTensor<Self>;

    /// `a b + c`, c of the product's shape.
    #[fusion(dtype = a, shape = product::shape(a, b))]
    fn product_plus(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self>;
}

impl Kernels for CubeBackend {
    fn row_means(x: CubeTensor) -> CubeTensor {
        sums::means(x)
    }

    fn dot_rows(a: CubeTensor, b: CubeTensor, factor: f32) -> CubeTensor {
        sums::sums(a, Some(b), factor)
    }

    fn sum_of_rows(x: CubeTensor) -> CubeTensor {
        sums::columns(x)
    }

    fn log_sum_exp(x: CubeTensor, columns: usize) -> CubeTensor {
        softmax::log_sums(x, columns)
    }

    fn softmax(x: CubeTensor, scale: f32, causal: Option<usize>) -> CubeTensor {
        softmax::weights(x, scale, causal)
    }

    fn normalised(x: CubeTensor, is_centred: bool, epsilon: f32) -> CubeTensor {
        norm::rows(x, is_centred, epsilon)
    }

    fn inverse_deviations(x: CubeTensor, is_centred: bool, epsilon: f32) -> CubeTensor {
        norm::deviations(x, is_centred, epsilon)
    }

    fn part(x: CubeTensor, first: usize, length: usize) -> CubeTensor {
        part::of(x, first, length)
    }

    fn rotated(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, is_back: bool) -> CubeTensor {
        rotation::pairs(x, cos, sin, is_back)
    }

    fn product(a: CubeTensor, b: CubeTensor, precision: MatmulPrecision) -> CubeTensor {
        product::product(&a, &b, None, precision)
    }

    fn product_plus(a: CubeTensor, b: CubeTensor, c: CubeTensor, precision: MatmulPrecision) -> CubeTensor {
        product::product(&a, &b, Some(c), precision)
    }
}
