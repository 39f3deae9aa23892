//! NVIDIA GPUs, in programs built with the feature `cuda`.

use burn::tensor::{Device, Tensor};

use super::{Backend, KernelTime};
use crate::MatmulPrecision;

/// Products are launched at the precision that is asked for; everything else is burn's.
pub(super) struct Cuda;

impl Backend for Cuda {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn title(&self) -> &'static str {
        "an NVIDIA GPU"
    }

    fn is_numbered(&self) -> bool {
        true
    }

    fn open(&self, number: usize) -> Result<Device, String> {
        open(number)
    }

    fn owns(&self, device: &Device) -> bool {
        owns(device)
    }

    fn precisions(&self) -> &'static [MatmulPrecision] {
        &[MatmulPrecision::F32, MatmulPrecision::Tf32, MatmulPrecision::Bf16]
    }

    fn fuses(&self) -> bool {
        false
    }

    fn is_in_host_memory(&self) -> bool {
        false
    }

    fn remedy(&self) -> &'static str {
        "CUDA needs the NVIDIA driver, and NVRTC with its headers in CUDA_PATH or /usr/local/cuda"
    }

    fn kernels(&self, work: &mut dyn FnMut()) -> Option<Vec<KernelTime>> {
        kernels(work)
    }

    fn product<const D: usize>(
        &self,
        a: &Tensor<D>,
        b: &Tensor<D>,
        precision: MatmulPrecision,
    ) -> Option<Tensor<D>> {
        matmul(a, b, precision)
    }
}

#[cfg(not(feature = "cuda"))]
use absent::{kernels, matmul, open, owns};
#[cfg(feature = "cuda")]
use built_in::{kernels, matmul, open, owns};

#[cfg(not(feature = "cuda"))]
mod absent {
    use burn::tensor::{Device, Tensor};

    use crate::{MatmulPrecision, backend::KernelTime};

    pub(super) fn open(_: usize) -> Result<Device, String> {
        Err("this program was built for the CPU alone; build one for both with \
             `cargo build --release --config deploy/cuda/config.toml --features cuda`"
            .into())
    }

    pub(super) fn owns(_: &Device) -> bool {
        false
    }

    pub(super) fn kernels(_: &mut dyn FnMut()) -> Option<Vec<KernelTime>> {
        None
    }

    pub(super) fn matmul<const D: usize>(
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: MatmulPrecision,
    ) -> Option<Tensor<D>> {
        None
    }
}

#[cfg(feature = "cuda")]
mod built_in {
    use burn::tensor::Device;
    use cudarc::driver::{CudaContext, sys::is_culib_present};

    pub(super) use crate::backend::cube::matmul;
    use crate::backend::{KernelTime, cube};

    pub(super) fn kernels(work: &mut dyn FnMut()) -> Option<Vec<KernelTime>> {
        Some(cube::kernels(work))
    }

    /// The GPU of a number; the driver is asked for first, because burn panics where there is none.
    pub(super) fn open(number: usize) -> Result<Device, String> {
        let count = count()?;
        if number >= count {
            return Err(format!("expected a number below {count}, which is how many GPUs there are"));
        }
        Ok(Device::cuda(number))
    }

    pub(super) fn owns(device: &Device) -> bool {
        count().is_ok_and(|count| (0..count).any(|number| *device == Device::cuda(number)))
    }

    /// How many GPUs there are.
    fn count() -> Result<usize, String> {
        #[expect(unsafe_code, reason = "opens the driver's library, which runs nothing of it")]
        let has_driver = unsafe { is_culib_present() };
        if !has_driver {
            return Err("the NVIDIA driver is not installed on this machine (there is no libcuda.so)".into());
        }
        let count =
            CudaContext::device_count().map_err(|error| format!("the NVIDIA driver answers {error}"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}
