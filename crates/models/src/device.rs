//! The devices that a run computes on, by name, and how they share work.

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

/// Splits `items` among devices, in order and evenly, and calls `work` with each device and its part.
///
/// Every device has a thread of its own, the first one the caller's. What `work` returns comes in the
/// order of the parts, of which there are fewer than devices if items are few. Kernels of the CPU run
/// on all cores whoever calls them, so several `cpu` are no faster than one.
///
/// # Panics
/// If there is no device, or if `work` panics.
pub fn map<T: Sync, R: Send>(
    devices: &[Device],
    items: &[T],
    work: impl Fn(&Device, &[T]) -> R + Sync,
) -> Vec<R> {
    assert!(!devices.is_empty(), "a computation has a device");
    let part = items.len().div_ceil(devices.len()).max(1);
    let mut parts = devices.iter().zip(items.chunks(part));
    let first = parts.next();
    let work = &work;
    std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|(device, part)| scope.spawn(move || work(device, part))).collect();
        let first = first.map(|(device, part)| work(device, part));
        let join = |other: std::thread::ScopedJoinHandle<'_, R>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        first.into_iter().chain(others.into_iter().map(join)).collect()
    })
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

    #[test]
    fn parts_are_even_and_come_back_in_order() {
        let split = |devices: usize, items: &[u32]| {
            map(&vec![Device::flex(); devices], items, |_, part| (std::thread::current().id(), part.to_vec()))
        };
        let (threads, parts): (Vec<_>, Vec<_>) = split(3, &[1, 2, 3, 4, 5, 6, 7]).into_iter().unzip();
        assert_eq!(parts, [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
        assert_eq!(threads[0], std::thread::current().id());
        assert!(threads[1] != threads[0] && threads[2] != threads[0] && threads[1] != threads[2]);
        assert_eq!(split(4, &[1]).len(), 1);
        assert!(split(2, &[]).is_empty());
    }

    #[test]
    #[should_panic(expected = "device 2 is gone")]
    fn a_panic_on_a_device_is_the_callers() {
        map(&vec![Device::flex(); 2], &[1, 2], |_, part| assert_eq!(part, [1], "device 2 is gone"));
    }
}
