//! NVIDIA GPUs, in programs built with the feature `cuda`.

use burn::tensor::{Device, Tensor};

use super::{Backend, KernelTime, Usage, cube};
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

    fn memory(&self, device: &Device) -> Option<u64> {
        memory(device)
    }

    fn about(&self, device: &Device) -> Option<String> {
        about(device)
    }

    fn remedy(&self) -> &'static str {
        "CUDA needs the NVIDIA driver, cuBLAS, and NVRTC with its headers in CUDA_PATH or /usr/local/cuda"
    }

    fn usage(&self, device: &Device) -> Option<Usage> {
        cube::usage(device)
    }

    fn kernels(&self, work: &mut dyn FnMut()) -> Option<Vec<KernelTime>> {
        cube::kernels(work)
    }

    fn product<const D: usize>(
        &self,
        a: &Tensor<D>,
        b: &Tensor<D>,
        plus: &mut Option<Tensor<D>>,
        precision: MatmulPrecision,
    ) -> Option<Tensor<D>> {
        cube::matmul(a, b, plus, precision)
    }
}

#[cfg(not(feature = "cuda"))]
use absent::{about, memory, open, owns};
#[cfg(feature = "cuda")]
use built_in::{about, memory, open, owns};

#[cfg(not(feature = "cuda"))]
mod absent {
    use burn::tensor::Device;

    pub(super) fn open(_: usize) -> Result<Device, String> {
        Err("this program was built for the CPU alone; build one for both with \
             `cargo build --release --config deploy/cuda/config.toml --features cuda`"
            .into())
    }

    pub(super) fn owns(_: &Device) -> bool {
        false
    }

    pub(super) fn memory(_: &Device) -> Option<u64> {
        None
    }

    pub(super) fn about(_: &Device) -> Option<String> {
        None
    }
}

#[cfg(feature = "cuda")]
mod built_in {
    use std::sync::OnceLock;

    use burn::tensor::Device;
    use cudarc::{
        cublas::sys as cublas,
        driver::{CudaContext, result, sys as driver},
        nvrtc::sys as nvrtc,
    };

    use super::cube;

    /// The GPU of a number. The driver and the compiler are asked for first, because burn panics where there is none.
    pub(super) fn open(number: usize) -> Result<Device, String> {
        let count = count()?;
        if number >= count {
            return Err(format!("expected a number below {count}, which is how many GPUs there are"));
        }
        let (driver, nvrtc) = versions()?;
        if nvrtc > driver {
            return Err(format!(
                "NVRTC is that of CUDA {}, and the driver, which is that of CUDA {}, refuses what a newer one \
                 compiled",
                told(nvrtc),
                told(driver)
            ));
        }
        if driver < OLDEST {
            return Err(format!(
                "the NVIDIA driver is that of CUDA {}, and one of CUDA {} or later is needed",
                told(driver),
                told(OLDEST)
            ));
        }
        cube::prepare();
        Ok(Device::cuda(number))
    }

    pub(super) fn owns(device: &Device) -> bool {
        number(device).is_some()
    }

    /// Bytes of the GPU's memory.
    pub(super) fn memory(device: &Device) -> Option<u64> {
        let device = card(device)?;
        #[expect(unsafe_code, reason = "the driver is asked for a number")]
        // SAFETY: the driver named the device
        let bytes = unsafe { result::device::total_mem(device) };
        bytes.ok().map(|bytes| bytes as u64)
    }

    /// The GPU's name, its memory, and who compiles for it.
    pub(super) fn about(device: &Device) -> Option<String> {
        let name = result::device::get_name(card(device)?).ok()?;
        let gigabytes = memory(device)? as f64 / 1e9;
        let (driver, nvrtc) = versions().ok()?;
        Some(format!("{name}, {gigabytes:.0} GB, driver of CUDA {}, NVRTC {}", told(driver), told(nvrtc)))
    }

    /// A GPU as the driver has it.
    fn card(device: &Device) -> Option<driver::CUdevice> {
        result::device::get(i32::try_from(number(device)?).ok()?).ok()
    }

    /// A GPU's number.
    fn number(device: &Device) -> Option<usize> {
        (0..count().ok()?).find(|&number| *device == Device::cuda(number))
    }

    /// How many GPUs there are. It stays as it is, and `owns` is asked often.
    fn count() -> Result<usize, String> {
        static COUNT: OnceLock<Result<usize, String>> = OnceLock::new();
        COUNT.get_or_init(counted).clone()
    }

    fn counted() -> Result<usize, String> {
        #[expect(unsafe_code, reason = "opens the driver's library, which runs nothing of it")]
        // SAFETY: NVIDIA's libraries may be opened at any time
        let has_driver = unsafe { driver::is_culib_present() };
        if !has_driver {
            return Err("the NVIDIA driver is not installed on this machine (there is no libcuda.so)".into());
        }
        let count =
            CudaContext::device_count().map_err(|error| format!("the NVIDIA driver answers {error}"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// A version of CUDA, major and minor.
    type Version = (i32, i32);

    /// The first whose driver has events of a context, by which cuBLAS keeps its turn.
    const OLDEST: Version = (12, 5);

    /// Those of the driver, which is there, and of NVRTC.
    fn versions() -> Result<(Version, Version), String> {
        let (mut version, mut major, mut minor) = (0, 0, 0);
        #[expect(unsafe_code, reason = "the libraries are asked for numbers")]
        // SAFETY: both write to numbers that are there
        unsafe {
            if !nvrtc::is_culib_present() {
                return Err("NVRTC, which compiles kernels, is not found (there is no libnvrtc.so)".into());
            }
            if !cublas::is_culib_present() {
                return Err(
                    "cuBLAS, which multiplies matrices, is not found (there is no libcublas.so)".into()
                );
            }
            let answer = driver::cuDriverGetVersion(&raw mut version);
            answer.result().map_err(|error| format!("the NVIDIA driver answers {error}"))?;
            let answer = nvrtc::nvrtcVersion(&raw mut major, &raw mut minor);
            answer.result().map_err(|error| format!("NVRTC answers {error}"))?;
        }
        Ok(((version / 1000, version % 1000 / 10), (major, minor)))
    }

    fn told((major, minor): Version) -> String {
        format!("{major}.{minor}")
    }
}
