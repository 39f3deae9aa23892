//! How much of a GPU is in use.

use burn::{backend::DispatchDevice, tensor::Device};

use crate::backend::Usage;

/// What burn has reserved of its memory, and how busy the driver says it is.
pub(in crate::backend) fn usage(device: &Device) -> Option<Usage> {
    let DispatchDevice::Cube(gpu) = device.as_dispatch() else { return None };
    let memory_bytes = device.memory_pool_usage()?.bytes_reserved;
    let busy = gpu.utilization().ok().map(|of_time| f64::from(of_time.busy_percent) / 100.0);
    Some(Usage { memory_bytes, busy })
}
