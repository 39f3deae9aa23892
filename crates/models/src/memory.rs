//! How much memory there is, and how the process treats what it freed.

use std::alloc::{GlobalAlloc, Layout, System};

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

/// The system's allocator with huge pages, where the system gives them to those that ask, for blocks of a few
/// megabytes and more: a program that computes declares it as its `#[global_allocator]`.
///
/// The first touch of a page stops the program, and a huge page, of 2 MiB, has 512 of the usual ones.
pub struct HugePages;

#[cfg(target_os = "linux")]
impl HugePages {
    /// Such a block holds a huge page as a whole, wherever it begins.
    const SMALLEST: usize = 4 << 20;

    fn ask(block: *mut u8, size: usize) {
        const PAGE: usize = 4096;
        if size < Self::SMALLEST || block.is_null() {
            return;
        }
        let skip = block.align_offset(PAGE);
        #[expect(unsafe_code, reason = "the system has no other interface")]
        // SAFETY: the pages lie in the block, and advice changes nothing that they hold
        unsafe {
            // without huge pages everything is as it was
            libc::madvise(block.add(skip).cast(), (size - skip) / PAGE * PAGE, libc::MADV_HUGEPAGE);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl HugePages {
    fn ask(_: *mut u8, _: usize) {}
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its interface")]
// SAFETY: the system's allocator does the work
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = unsafe { System.alloc(layout) };
        Self::ask(block, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = unsafe { System.alloc_zeroed(layout) };
        Self::ask(block, layout.size());
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let block = unsafe { System.realloc(block, layout, size) };
        Self::ask(block, size);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
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
