//! How much memory there is, and how the process treats what it freed.

/// Bytes from which on a block is given back when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: usize = 32 << 20;

/// Keeps freed memory in the process, for a program that computes: call it once, first of all.
///
/// A pass allocates and frees tensors of many megabytes. By default the GNU allocator gives each
/// back to the system, which hands out and clears new pages for the next: about a quarter of a
/// training step. Afterwards memory stays at the largest that was in use. Blocks of 32 MiB and more, as the
/// vectors of a large model, are given back all the same: kept, they would leave holes that no other vector
/// fits, two or three vectors' worth. On other systems nothing changes.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // one arena, since others cannot hold a large block and would map it anew
        let settings = [
            (libc::M_MMAP_THRESHOLD, LARGE.cast_signed() as libc::c_int),
            (libc::M_TRIM_THRESHOLD, -1),
            (libc::M_ARENA_MAX, 1),
        ];
        for (setting, value) in settings {
            #[expect(unsafe_code, reason = "the allocator has no other interface")]
            // SAFETY: the call changes thresholds and touches no memory of ours
            unsafe {
                libc::mallopt(setting, value);
            }
        }
    }
}

/// Before work on vectors of so many bytes: what [`keep_freed_memory`] keeps goes back to the system if it cannot
/// hold such a vector, which would come on top of it.
pub fn make_room_for(bytes: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if bytes >= LARGE {
        #[expect(unsafe_code, reason = "the allocator has no other interface")]
        // SAFETY: the call gives back pages that hold no allocation
        unsafe {
            libc::malloc_trim(0);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = bytes;
}

/// Bytes of memory that this process may use: the machine's, or its control group's if that is less.
/// `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
    })?;
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}
