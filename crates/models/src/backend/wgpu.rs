//! GPUs of any make through WebGPU (Vulkan, Metal, DirectX 12), in programs built with the feature `wgpu`.

use burn::tensor::{Device, Tensor};

use super::{Backend, KernelTime, Usage, cube};
use crate::MatmulPrecision;

/// Products are launched in f32; everything else is burn's.
pub(super) struct Wgpu;

impl Backend for Wgpu {
    fn name(&self) -> &'static str {
        "wgpu"
    }

    fn title(&self) -> &'static str {
        "a GPU by WebGPU"
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
        &[MatmulPrecision::F32]
    }

    fn fuses(&self) -> bool {
        false
    }

    fn is_in_host_memory(&self) -> bool {
        false
    }

    fn remedy(&self) -> &'static str {
        "on Linux WebGPU needs the GPU's Vulkan driver; `vulkaninfo --summary` lists what there is"
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

#[cfg(not(feature = "wgpu"))]
use absent::{open, owns};
#[cfg(feature = "wgpu")]
use built_in::{open, owns};

#[cfg(not(feature = "wgpu"))]
mod absent {
    use burn::tensor::Device;

    pub(super) fn open(_: usize) -> Result<Device, String> {
        Err("this program was built without WebGPU; build one that has it with \
             `cargo build --release --features wgpu`"
            .into())
    }

    pub(super) fn owns(_: &Device) -> bool {
        false
    }
}

#[cfg(feature = "wgpu")]
mod built_in {
    use std::sync::OnceLock;

    use burn::tensor::{Device, DeviceType};

    use super::cube;

    /// The GPU of a number, or a program that stands in for one (Mesa's lavapipe) where there are no others.
    pub(super) fn open(number: usize) -> Result<Device, String> {
        cube::prepare();
        match devices() {
            [] => Err("no GPU answers by Vulkan, Metal or DirectX 12".into()),
            devices => devices.get(number).cloned().ok_or_else(|| {
                format!("expected a number below {}, which is how many GPUs there are", devices.len())
            }),
        }
    }

    pub(super) fn owns(device: &Device) -> bool {
        devices().contains(device)
    }

    /// All there are. To look for them takes long, and `owns` is asked often.
    fn devices() -> &'static [Device] {
        static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
        DEVICES.get_or_init(|| Device::enumerate(DeviceType::Wgpu).into_iter().collect())
    }
}
