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
