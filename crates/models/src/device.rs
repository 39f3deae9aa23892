//! The devices that a run computes on, by name.

use burn::tensor::Device;

use crate::Error;

/// Reads `cpu`, `cuda:N`, or several of one kind with commas between them, as in `cuda:0,cuda:1`.
///
/// # Errors
/// Another name, CPU and CUDA mixed, a GPU that is not there, and `cuda:N` in a program built without the
/// feature `cuda`.
pub fn parse(text: &str) -> Result<Vec<Device>, Error> {
    let refused = |reason: &str| Error::Device { text: text.into(), reason: reason.into() };
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_cuda = |name: &&str| name.starts_with("cuda");
    if names.iter().any(is_cuda) && !names.iter().all(is_cuda) {
        return Err(refused("one run computes on devices of one kind"));
    }
    let device = |name: &str| match name.strip_prefix("cuda:") {
        None if name == "cpu" => Ok(Device::flex()),
        None => Err(refused("expected `cpu`, `cuda:N`, or a list as in `cpu,cpu` or `cuda:0,cuda:1`")),
        Some(index) => {
            let index = index.parse().ok().filter(|_| index.bytes().all(|byte| byte.is_ascii_digit()));
            cuda(index.ok_or_else(|| refused("expected the GPU's number, as in `cuda:0`"))?)
                .map_err(|reason| refused(&reason))
        }
    };
    names.into_iter().map(device).collect()
}

/// The GPU of a number; asked for first, because burn panics where there is none.
#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, String> {
    use cudarc::driver::{CudaContext, sys::is_culib_present};
    #[expect(unsafe_code, reason = "opens the driver's library, which runs nothing of it")]
    let has_driver = unsafe { is_culib_present() };
    if !has_driver {
        return Err("the NVIDIA driver is not installed on this machine (there is no libcuda.so)".into());
    }
    let count = CudaContext::device_count().map_err(|error| format!("the NVIDIA driver answers {error}"))?;
    if index as i64 >= i64::from(count) {
        return Err(format!("expected a number below {count}, which is how many GPUs there are"));
    }
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, String> {
    Err("this program was built for the CPU alone; build one for both with \
         `cargo build --release --config deploy/cuda/config.toml --features cuda`"
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!(parse("cpu").unwrap(), [Device::flex()]);
        assert_eq!(parse("cpu, cpu").unwrap(), [Device::flex(), Device::flex()]);
    }

    #[test]
    fn what_is_no_device_is_refused_with_what_was_expected() {
        for text in ["", "gpu", "cpu,", "cpu:0", "cuda", "CPU", "cuda:x", "cuda:-1", "cuda:+1", "cpu,cuda:0"]
        {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("device `{text}`: ")), "{message}");
            assert!(message.contains("expected") || message.contains("one kind"), "{message}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn cuda_is_refused_with_how_to_build_it_in() {
        let message = parse("cuda:0").unwrap_err().to_string();
        assert!(message.contains("--features cuda"), "{message}");
    }
}
