//! The machine's own processor, with fused operations.

use burn::tensor::{Device, Tensor};

use super::Backend;
use crate::{MatmulPrecision, fused};

/// Matrices are multiplied, and rows, norms and losses pass over memory once, by `fused`; products of more dimensions are
/// burn's.
pub(super) struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn title(&self) -> &'static str {
        "the CPU"
    }

    fn is_numbered(&self) -> bool {
        false
    }

    fn open(&self, _: usize) -> Result<Device, String> {
        Ok(Device::flex())
    }

    fn owns(&self, device: &Device) -> bool {
        *device == Device::flex()
    }

    fn precisions(&self) -> &'static [MatmulPrecision] {
        &[MatmulPrecision::F32]
    }

    fn fuses(&self) -> bool {
        true
    }

    fn is_in_host_memory(&self) -> bool {
        true
    }

    fn remedy(&self) -> &'static str {
        "every build of `dpg` computes on the CPU: this is a fault of `dpg`"
    }

    fn product<const D: usize>(
        &self,
        a: &Tensor<D>,
        b: &Tensor<D>,
        plus: &mut Option<Tensor<D>>,
        precision: MatmulPrecision,
    ) -> Option<Tensor<D>> {
        if precision == MatmulPrecision::F32 { fused::product(a, b, plus) } else { None }
    }
}
