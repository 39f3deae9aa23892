//! The devices that a run computes on, by name, and how they share work.

use burn::tensor::Device;

use crate::Error;
pub use crate::backend::{Backend, KernelTime, Usage, backends};

/// Opens the devices of a list with commas: of one backend, as in `cpu` or `cuda:0,cuda:1`.
///
/// # Errors
/// Another name, devices of several backends, and a device that cannot be opened.
pub fn parse(text: &str) -> Result<Vec<Device>, Error> {
    let (backend, numbers) = read(text)?;
    let open = |number| backend.open(number).map_err(|reason| refused(text, reason));
    numbers.into_iter().map(open).collect()
}

/// The backend of a list of devices, none of which is opened.
///
/// # Errors
/// Another name, and devices of several backends.
pub fn backend(text: &str) -> Result<&'static dyn Backend, Error> {
    Ok(read(text)?.0)
}

/// The backend of a device that [`parse`] opened.
///
/// # Panics
/// If no backend opened it.
pub fn backend_of(device: &Device) -> &'static dyn Backend {
    let owner = backends().iter().find(|backend| backend.owns(device));
    *owner.expect("every device is opened by a backend")
}

/// What a list of devices looks like, for help texts: "`cpu`, `cuda:N`, `wgpu:N`, or several of one kind, ...".
pub fn help() -> String {
    format!("{}, or several of one kind, as in {}", forms(), list())
}

/// What the name of one device looks like, for help texts: "`cpu`, `cuda:N` or `wgpu:N`".
pub fn help_one() -> String {
    let forms = forms();
    forms.rsplit_once(", ").map_or(forms.clone(), |(others, last)| format!("{others} or {last}"))
}

/// The backend and the numbers of a list.
fn read(text: &str) -> Result<(&'static dyn Backend, Vec<usize>), Error> {
    let parts = text.split(',').map(str::trim);
    let devices = parts.map(|name| device(text, name)).collect::<Result<Vec<_>, _>>()?;
    let (backend, _) = devices[0];
    if devices.iter().any(|(other, _)| other.name() != backend.name()) {
        return Err(refused(text, "one run computes on devices of one kind"));
    }
    Ok((backend, devices.into_iter().map(|(_, number)| number).collect()))
}

/// The backend and the number of one device.
fn device(text: &str, name: &str) -> Result<(&'static dyn Backend, usize), Error> {
    let (kind, number) = name.split_once(':').map_or((name, None), |(kind, number)| (kind, Some(number)));
    let backend = backends().iter().find(|backend| backend.name() == kind);
    let backend = *backend
        .filter(|backend| backend.is_numbered() == number.is_some())
        .ok_or_else(|| refused(text, format!("expected {}, or a list as in {}", forms(), list())))?;
    let number = number.unwrap_or("0");
    let parsed = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()));
    let expected = || format!("expected the device's number, as in `{}`", backend.device_name(0));
    Ok((backend, parsed.ok_or_else(|| refused(text, expected()))?))
}

fn refused(text: &str, reason: impl Into<String>) -> Error {
    Error::Device { text: text.into(), reason: reason.into() }
}

/// The names of devices, as in "`cpu`, `cuda:N`, `wgpu:N`".
fn forms() -> String {
    let form = |backend: &&dyn Backend| {
        let number = if backend.is_numbered() { ":N" } else { "" };
        format!("`{}{number}`", backend.name())
    };
    backends().iter().map(form).collect::<Vec<_>>().join(", ")
}

/// What a list looks like: "`cuda:0,cuda:1`".
fn list() -> String {
    let numbered = backends().iter().find(|backend| backend.is_numbered()).unwrap_or(&backends()[0]);
    format!("`{},{}`", numbered.device_name(0), numbered.device_name(1))
}

/// Splits `items` among devices, in order and evenly, and calls `work` with each device and its part.
///
/// Every device has a thread of its own, the first one the caller's; on the CPU it is one of those that kernels run
/// on, which otherwise have to be woken for each kernel. What `work` returns comes in the order of the parts, of which
/// there are fewer than devices if items are few. Kernels of the CPU run on all cores whoever calls them, so several
/// `cpu` are not faster than one.
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
    let work = &|device: &Device, part| {
        if backend_of(device).is_in_host_memory() {
            rayon::scope(|_| work(device, part))
        } else {
            work(device, part)
        }
    };
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
        assert_eq!(backend("cpu, cpu").unwrap().name(), "cpu");
        assert_eq!(backend("cuda:7").unwrap().name(), "cuda");
        assert_eq!(backend_of(&Device::flex()).name(), "cpu");
    }

    #[test]
    fn help_names_every_backend() {
        assert_eq!(help(), "`cpu`, `cuda:N`, `wgpu:N`, or several of one kind, as in `cuda:0,cuda:1`");
        assert_eq!(help_one(), "`cpu`, `cuda:N` or `wgpu:N`");
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
    #[cfg(not(feature = "cube"))]
    fn gpus_are_refused_with_how_to_build_them_in() {
        for kind in ["cuda", "wgpu"] {
            let message = parse(&format!("{kind}:0")).unwrap_err().to_string();
            assert!(message.contains(&format!("--features {kind}`")), "{message}");
        }
    }

    #[test]
    fn parts_are_even_and_come_back_in_order() {
        let split = |devices: usize, items: &[u32]| {
            map(&vec![Device::flex(); devices], items, |_, part| {
                assert!(rayon::current_thread_index().is_some(), "it runs where kernels do");
                part.to_vec()
            })
        };
        assert_eq!(split(3, &[1, 2, 3, 4, 5, 6, 7]), [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
        assert_eq!(split(4, &[1]).len(), 1);
        assert!(split(2, &[]).is_empty());
    }

    #[test]
    #[should_panic(expected = "device 2 is gone")]
    fn a_panic_on_a_device_is_the_callers() {
        map(&vec![Device::flex(); 2], &[1, 2], |_, part| assert_eq!(part, [1], "device 2 is gone"));
    }
}
