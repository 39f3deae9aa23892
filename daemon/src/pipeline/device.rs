//! The devices that settings and flags name.

use anyhow::bail;
use burn::tensor::Device;
use dpg_models::device::{Usage, backend_of, parse};
use dpg_queue::Resources;

/// The one device of a list.
pub(crate) fn only(devices: &[Device]) -> anyhow::Result<&Device> {
    match devices {
        [device] => Ok(device),
        _ => bail!("{} devices were given, and this computes on one; name one of them", devices.len()),
    }
}

/// What the devices of a list have for jobs that ask for GPUs. One that does not tell its memory has none, and a list
/// that cannot be opened has nothing: jobs that ask for nothing then fail with the reason.
pub(crate) fn resources(devices: &str) -> Resources {
    let opened = parse(devices).unwrap_or_default();
    let gpus: Vec<_> = opened.iter().filter(|device| !backend_of(device).is_in_host_memory()).collect();
    let bytes = gpus.iter().map(|device| backend_of(device).memory(device).unwrap_or(0));
    Resources { gpus: gpus.len() as u32, gpu_bytes: bytes.min().unwrap_or(0) }
}

/// How much of each device of a list is in use, by its name, for those that say.
pub(crate) fn usage(devices: &str) -> Vec<(String, Usage)> {
    let names = devices.split(',').map(|name| name.trim().to_owned());
    let opened = parse(devices).unwrap_or_default();
    let used = names.zip(opened).map(|(name, device)| Some((name, backend_of(&device).usage(&device)?)));
    used.flatten().collect()
}

/// The help of a flag, with how devices are named.
pub(crate) fn help(what: &str) -> String {
    format!("{what}: {}", dpg_models::device::help())
}

/// The same for one device.
pub(crate) fn help_one(what: &str) -> String {
    format!("{what}: {}", dpg_models::device::help_one())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_and_what_cannot_be_opened_have_no_gpus() {
        for devices in ["cpu", "cpu,cpu", "cuda:4096", "no device"] {
            assert_eq!(resources(devices), Resources::default(), "{devices}");
            assert_eq!(usage(devices), [], "{devices}");
        }
    }
}
