//! Products on NVIDIA GPUs, by cuBLAS.
//!
//! It computes on a stream of its own, since cubecl keeps its streams to itself: by two events of the context the
//! product waits for all that was launched before, and what is launched later waits for the product. The host waits for
//! nothing.

mod library;
mod matrices;
mod parts;
mod times;

use std::sync::{Mutex, PoisonError};

use burn_backend::TensorMetadata;
use burn_cubecl::{CubeDevice, kernel::into_contiguous, ops::numeric::add, tensor::CubeTensor};
use cubecl::device_handle::DeviceHandle;
use cubecl_cuda::CudaRuntime;
use cubecl_runtime::runtime::Runtime;
use cudarc::cublas::sys::cublasComputeType_t as Compute;

use super::{product::shape, sums::empty};
use crate::MatmulPrecision;
use library::Call;
use matrices::Matrices;
use parts::{Parts, Side};

pub(super) use times::watched;

type Server = <CudaRuntime as Runtime>::Server;

/// Whether a device's products are cuBLAS's.
pub(super) fn multiplies_on(device: &CubeDevice) -> bool {
    matches!(device, CubeDevice::Cuda(_))
}

/// A product of f32 goes to tensor cores, in parts, if it is one and its three sizes are at least this. The many small ones
/// of attention take longer to be taken apart than to be multiplied.
const WORTH_PARTS: usize = 64;

/// Rows of so many numbers in f32 begin at multiples of 16 bytes.
const ALIGNED: usize = 4;

/// Why a product could not be launched, until somebody is told.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// `a b`, added to `plus` if there is one of the product's shape.
///
/// # Panics
/// If a product before could not be launched.
pub(super) fn product(
    a: &CubeTensor,
    b: &CubeTensor,
    mut plus: Option<CubeTensor>,
    precision: MatmulPrecision,
) -> CubeTensor {
    if let Some(reason) = FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        panic!("a product on the GPU failed: {reason}");
    }
    let (left, right) = (a.shape(), b.shape());
    let rank = left.num_dims();
    let (m, k, n) = (left[rank - 2], left[rank - 1], right[rank - 1]);
    let is_one = left.num_elements() == m * k;
    let (parts, compute) = match precision {
        MatmulPrecision::F32 if is_one && m.min(k).min(n) >= WORTH_PARTS => {
            (Some(true), Compute::CUBLAS_COMPUTE_32F)
        }
        MatmulPrecision::F32 => (None, Compute::CUBLAS_COMPUTE_32F),
        MatmulPrecision::Tf32 => (None, Compute::CUBLAS_COMPUTE_32F_FAST_TF32),
        MatmulPrecision::Bf16 => (Some(false), Compute::CUBLAS_COMPUTE_32F),
    };
    // tensor cores write rows that do not begin at multiples of 16 bytes at a seventh of their speed
    let is_slow = is_one && parts.is_some() && !n.is_multiple_of(ALIGNED);
    let is_turned = |x: &CubeTensor| x.meta.strides()[rank - 2] == 1;
    if is_slow && m.is_multiple_of(ALIGNED) && is_turned(a) {
        return turned(product(&turned(b.clone()), &turned(a.clone()), plus.map(turned), precision));
    }
    // what nobody else has is added to where it is
    let lies_in_rows = |x: &CubeTensor| Matrices::find(x).is_some_and(|found| found.lines_are_rows);
    let onto = plus.take_if(|plus| !is_slow && plus.can_mut() && lies_in_rows(plus));
    let beta = if onto.is_some() { 1.0 } else { 0.0 };
    let output = onto.unwrap_or_else(|| {
        let mut shape = shape(&left, &right);
        let has_heads_inside = rank == 4 && lies_in_rows(b) && b.meta.strides()[1] < b.meta.strides()[2];
        if has_heads_inside {
            // as what it is to be merged with
            shape.swap(1, 2);
            let mut output = empty(a, shape);
            output.meta.swap(1, 2);
            return output;
        }
        if is_slow {
            shape[rank - 1] = n.next_multiple_of(ALIGNED);
        }
        let mut output = empty(a, shape);
        output.meta.shape_mut()[rank - 1] = n;
        output
    });
    let [left, right] = [(a, Side::Left), (b, Side::Right)].map(|(x, side)| match parts {
        Some(are_three) => Matrices::of_parts(&Parts::of(x, side, are_three)),
        None => Matrices::of(x),
    });
    let inner = match parts {
        Some(are_three) => Parts::inner(k, are_three),
        None => k,
    };
    let call = Call { sizes: [m, n, inner], left, right, output: Matrices::of(&output), compute, beta };
    DeviceHandle::<Server>::new(output.client.service_id().device).submit(move |server| {
        if let Err(reason) = call.launch(server) {
            tracing::error!("a product on the GPU failed: {reason}");
            *FAILURE.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
    });
    let output = if is_slow { into_contiguous(output) } else { output };
    match plus {
        None => output,
        Some(plus) => add(output, plus),
    }
}

/// Matrices with their rows as columns, where they lie.
fn turned(mut x: CubeTensor) -> CubeTensor {
    let rank = x.meta.num_dims();
    x.meta.swap(rank - 2, rank - 1);
    x
}
