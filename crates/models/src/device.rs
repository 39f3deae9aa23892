//! Devices that share one computation.

use burn::tensor::Device;

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
