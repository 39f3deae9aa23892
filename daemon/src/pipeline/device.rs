//! The devices that settings and flags name.

use anyhow::bail;
use burn::tensor::Device;

/// The one device of a list.
pub(crate) fn only(devices: &[Device]) -> anyhow::Result<&Device> {
    match devices {
        [device] => Ok(device),
        _ => bail!("{} devices were given, and this computes on one; name one of them", devices.len()),
    }
}

/// The help of a flag, with how devices are named.
pub(crate) fn help(what: &str) -> String {
    format!("{what}: {}", dpg_models::device::help())
}

/// The same for one device.
pub(crate) fn help_one(what: &str) -> String {
    format!("{what}: {}", dpg_models::device::help_one())
}
