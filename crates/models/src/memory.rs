//! How the process treats freed memory.

/// Keeps freed memory in the process, for a program that computes: call it once, first of all.
///
/// A pass allocates and frees tensors of many megabytes. By default the GNU allocator gives each
/// back to the system, which hands out and clears new pages for the next: about a quarter of a
/// training step. Afterwards memory stays at the largest that was in use. On other systems nothing
/// changes.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // one arena, since others cannot hold a large block and would map it anew
        let settings = [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1), (libc::M_ARENA_MAX, 1)];
        for (setting, value) in settings {
            #[expect(unsafe_code, reason = "the allocator has no other interface")]
            // SAFETY: the call changes thresholds and touches no memory of ours
            unsafe {
                libc::mallopt(setting, value);
            }
        }
    }
}
