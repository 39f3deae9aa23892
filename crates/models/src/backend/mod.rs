//! What computes: each backend is one file here and one name in the list.
//!
//! [`device`](crate::device) opens devices by the names that the list gives; help texts, `dpg plan` and
//! `dpg doctor` ask the list as well.

use burn::tensor::{Device, Tensor};
use serde::Serialize;

use crate::{MatmulPrecision, available_memory};

mod cpu;
#[cfg(feature = "cube")]
mod cube;
#[cfg(not(feature = "cube"))]
#[path = "cube/absent.rs"]
mod cube;
mod cuda;
mod wgpu;

pub(crate) use cube::{
    dot_rows, inverse_deviations, log_sum_exp, normalised, part, rotated, row_means, softmax, sum_of_rows,
};

/// Makes the list, and the choice of a product.
macro_rules! backends {
    ($($module:ident::$backend:ident),+ $(,)?) => {
        /// All backends; the first is the default.
        pub fn backends() -> &'static [&'static dyn Backend] {
            &[$(&$module::$backend),+]
        }

        /// `a b`, and what is added to it, in the way of the backend that the operands lie on; `None` if it has none
        /// of its own.
        pub(crate) fn product<const D: usize>(
            a: &Tensor<D>,
            b: &Tensor<D>,
            plus: &mut Option<Tensor<D>>,
            precision: MatmulPrecision,
        ) -> Option<Tensor<D>> {
            None$(.or_else(|| $module::$backend.product(a, b, plus, precision)))+
        }
    };
}

backends![cpu::Cpu, cuda::Cuda, wgpu::Wgpu];

/// What the launches of one kernel took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelTime {
    /// The kernel's name, shortened.
    pub name: String,
    /// Launches.
    pub launches: usize,
    /// Seconds on the device, of all launches.
    pub seconds: f64,
}

/// How much of a device is in use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Bytes of its memory that this process has reserved.
    pub memory_bytes: u64,
    /// The part of the last moments in which it computed, for whatever process, from 0 to 1; `None` if it does not say.
    pub busy: Option<f64>,
}

/// One way to compute: it opens devices and answers for them.
pub trait Backend: Sync {
    /// What its devices' names begin with: `cpu`, `cuda`, `wgpu`.
    fn name(&self) -> &'static str;

    /// One of its devices in a sentence: "the CPU".
    fn title(&self) -> &'static str;

    /// Whether a device's name ends in a number, as in `cuda:0`.
    fn is_numbered(&self) -> bool;

    /// Opens the device of a number, which is 0 where devices are not numbered. Never panics, whatever the
    /// machine lacks.
    ///
    /// # Errors
    /// What is missing, or which numbers there are.
    fn open(&self, number: usize) -> Result<Device, String>;

    /// Whether it opened a device.
    fn owns(&self, device: &Device) -> bool;

    /// What products can be computed in here, `F32` among them. The rest is imitated by rounding.
    fn precisions(&self) -> &'static [MatmulPrecision];

    /// Whether fused operations run here; else they are composed of burn's.
    fn fuses(&self) -> bool;

    /// Whether tensors lie in the machine's own memory, which jobs are measured against.
    fn is_in_host_memory(&self) -> bool;

    /// Bytes that the tensors of a device can take in all, if it says.
    fn memory(&self, _device: &Device) -> Option<u64> {
        if self.is_in_host_memory() { available_memory() } else { None }
    }

    /// How much of a device is in use, if it says.
    fn usage(&self, _device: &Device) -> Option<Usage> {
        None
    }

    /// What there is to know of one of its devices: its name, its memory, who compiles for it.
    fn about(&self, _device: &Device) -> Option<String> {
        None
    }

    /// What to do where a device cannot be opened or does not compute.
    fn remedy(&self) -> &'static str;

    /// Does some work and measures its kernels, the longest first; `None`, and nothing is done, where kernels
    /// are not launched.
    fn kernels(&self, _work: &mut dyn FnMut()) -> Option<Vec<KernelTime>> {
        None
    }

    /// `a b`, batched over leading dimensions, which are the same for both, plus what is of the product's shape or a
    /// row of it, which it takes: the product may be written where that is. `None` for tensors that it does not multiply,
    /// tracked ones among them. Without it burn multiplies rounded operands.
    fn product<const D: usize>(
        &self,
        _a: &Tensor<D>,
        _b: &Tensor<D>,
        _plus: &mut Option<Tensor<D>>,
        _precision: MatmulPrecision,
    ) -> Option<Tensor<D>>
    where
        Self: Sized,
    {
        None
    }
}

impl dyn Backend {
    /// A device's name; `which` counts from 0.
    pub fn device_name(&self, which: usize) -> String {
        if self.is_numbered() { format!("{}:{which}", self.name()) } else { self.name().into() }
    }

    /// What there is to know of its devices, for `dpg plan` and `dpg doctor`.
    pub fn remark(&self) -> String {
        let precisions: Vec<_> = self.precisions().iter().map(|precision| precision.name()).collect();
        let operations = if self.fuses() { "fused" } else { "composed" };
        format!("{}, operations {operations}, products in {}", self.title(), precisions.join(", "))
    }
}
