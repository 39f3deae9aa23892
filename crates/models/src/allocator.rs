//! How a program that computes treats the memory that it freed: each fresh page stops it until the system has cleared
//! the page, and a pass allocates and frees thousands of tensors.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes from which on a block is large, as the vectors of a model are.
const LARGE: usize = 32 << 20;

/// Bytes from which on a block holds a huge page as a whole, wherever it begins.
#[cfg(target_os = "linux")]
const HUGE: usize = 4 << 20;

/// Keeps freed memory in the process, for a program that computes: call it once, first of all.
///
/// By default the GNU allocator gives the memory of each tensor back to the system, about a quarter of a training step.
/// Afterwards memory stays at the largest that was in use. Large blocks are mapped one by one all the same: among
/// others they would leave holes that no other vector fits, two or three vectors' worth. [`Allocator`] keeps those. On
/// other systems nothing changes.
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

/// Before work without large blocks: those that are kept, which it would come on top of, go back to the system.
pub fn give_back_large() {
    kept().drop_below(usize::MAX);
}

/// Before work on vectors of so many bytes: kept memory that cannot hold such a vector, which would come on top of it,
/// goes back to the system. With `usize::MAX` all of it does.
pub fn make_room_for(bytes: usize) {
    if bytes < LARGE {
        return;
    }
    kept().drop_below(bytes);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the allocator has no other interface")]
        // SAFETY: the call gives back pages that hold no allocation
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// The system's allocator with two habits; a program declares it as its `#[global_allocator]`.
///
/// Large blocks are kept when they are freed, for the next of their size. Those in use and those kept never take more
/// together than those in use once did. Blocks of 4 MiB and more ask for huge pages, each of which has 512 of the usual
/// ones.
pub struct Allocator;

impl Allocator {
    fn ask(block: *mut u8, size: usize) {
        #[cfg(target_os = "linux")]
        if size >= HUGE && !block.is_null() {
            const PAGE: usize = 4096;
            let skip = block.align_offset(PAGE);
            #[expect(unsafe_code, reason = "the system has no other interface")]
            // SAFETY: the pages lie in the block, and advice changes nothing that they hold
            unsafe {
                // without huge pages everything is as it was
                libc::madvise(block.add(skip).cast(), (size - skip) / PAGE * PAGE, libc::MADV_HUGEPAGE);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (block, size);
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its interface")]
// SAFETY: every block is the system's; a kept one is nobody's, and of the same layout
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = take(layout) {
            return block;
        }
        let block = unsafe { System.alloc(layout) };
        Self::ask(block, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = take(layout) {
            unsafe { block.write_bytes(0, layout.size()) };
            return block;
        }
        let block = unsafe { System.alloc_zeroed(layout) };
        Self::ask(block, layout.size());
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() >= LARGE {
            return kept().put(block, layout);
        }
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size().max(size) >= LARGE {
            kept().resize(layout.size(), size);
        }
        let block = unsafe { System.realloc(block, layout, size) };
        Self::ask(block, size);
        block
    }
}

static KEPT: Mutex<Kept> = Mutex::new(Kept::NONE);

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A kept block of a layout. If it is large and there is none, a new one is to follow.
fn take(layout: Layout) -> Option<*mut u8> {
    if layout.size() < LARGE { None } else { kept().take(layout) }
}

/// Large blocks: those that were freed, and the bytes of the others.
struct Kept {
    /// The first `len` are those that were freed, the oldest first.
    blocks: [(*mut u8, Layout); Self::MOST],
    len: usize,
    /// Bytes of these.
    bytes: usize,
    /// Bytes in use, and the most that there ever were.
    used: usize,
    peak: usize,
}

#[expect(unsafe_code, reason = "blocks are pointers")]
// SAFETY: the blocks that it points to are nobody's
unsafe impl Send for Kept {}

impl Kept {
    const MOST: usize = 64;
    const NONE: Self = Self {
        blocks: [(ptr::null_mut(), Layout::new::<()>()); Self::MOST],
        len: 0,
        bytes: 0,
        used: 0,
        peak: 0,
    };

    fn take(&mut self, layout: Layout) -> Option<*mut u8> {
        let place = self.blocks[..self.len].iter().rposition(|(_, kept)| *kept == layout);
        let block = place.map(|place| self.remove(place));
        self.resize(0, layout.size());
        block
    }

    fn put(&mut self, block: *mut u8, layout: Layout) {
        self.used -= layout.size();
        if self.len == Self::MOST {
            self.give_back(0);
        }
        self.blocks[self.len] = (block, layout);
        self.len += 1;
        self.bytes += layout.size();
    }

    /// A block in use has another size; 0 is none.
    fn resize(&mut self, from: usize, to: usize) {
        let large = |size: usize| if size >= LARGE { size } else { 0 };
        self.used = self.used - large(from) + large(to);
        self.peak = self.peak.max(self.used);
        while self.used + self.bytes > self.peak {
            self.give_back(0);
        }
    }

    /// Gives back the blocks of fewer bytes.
    fn drop_below(&mut self, bytes: usize) {
        while let Some(place) = self.blocks[..self.len].iter().position(|(_, kept)| kept.size() < bytes) {
            self.give_back(place);
        }
    }

    fn give_back(&mut self, place: usize) {
        let layout = self.blocks[place].1;
        let block = self.remove(place);
        #[expect(unsafe_code, reason = "an allocator is unsafe by its interface")]
        // SAFETY: the system gave the block with this layout, and nobody has it
        unsafe {
            System.dealloc(block, layout);
        }
    }

    fn remove(&mut self, place: usize) -> *mut u8 {
        let (block, layout) = self.blocks[place];
        self.blocks.copy_within(place + 1..self.len, place);
        self.len -= 1;
        self.bytes -= layout.size();
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of so many megabytes.
    fn of(megabytes: usize) -> Layout {
        Layout::from_size_align(megabytes << 20, 16).unwrap()
    }

    fn allocate(kept: &mut Kept, layout: Layout) -> *mut u8 {
        #[expect(unsafe_code, reason = "an allocator is unsafe by its interface")]
        // SAFETY: the layout is not empty
        kept.take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    #[test]
    fn blocks_in_use_and_kept_never_take_more_than_the_peak() {
        let mut kept = Kept::NONE;
        let blocks = [32, 40, 48, 56].map(|megabytes| (allocate(&mut kept, of(megabytes)), of(megabytes)));
        for (block, layout) in blocks {
            kept.put(block, layout);
        }
        assert_eq!((kept.used, kept.bytes, kept.peak), (0, 176 << 20, 176 << 20));
        assert_eq!(allocate(&mut kept, of(56)), blocks[3].0, "a block is kept for the next of its size");
        // none has this size: the oldest make room
        let other = allocate(&mut kept, of(64));
        assert_eq!((kept.used, kept.bytes, kept.peak), (120 << 20, 48 << 20, 176 << 20));
        // one that grows beyond them all
        kept.resize(64 << 20, 200 << 20);
        assert_eq!((kept.used, kept.bytes, kept.peak), (256 << 20, 0, 256 << 20));
        kept.resize(200 << 20, 64 << 20);
        for (block, megabytes) in [(other, 64), (blocks[3].0, 56)] {
            kept.put(block, of(megabytes));
        }
        kept.drop_below(60 << 20);
        assert_eq!((kept.used, kept.bytes), (0, 64 << 20), "what holds such a vector stays");
        kept.drop_below(usize::MAX);
        assert_eq!((kept.len, kept.bytes), (0, 0));
    }

    #[test]
    #[expect(unsafe_code, reason = "an allocator is unsafe by its interface")]
    fn contents_move_along_and_zeros_are_zeros() {
        let (small, large, larger) = (of(1), of(33), of(90));
        // SAFETY: every block is used with the layout that it has
        unsafe {
            let mut block = Allocator.alloc(small);
            block.write_bytes(7, small.size());
            for (old, new) in [(small, large), (large, larger), (larger, large), (large, small)] {
                block = Allocator.realloc(block, old, new.size());
                assert!(std::slice::from_raw_parts(block, small.size()).iter().all(|&byte| byte == 7));
            }
            Allocator.dealloc(block, small);
            for _ in 0..2 {
                let block = Allocator.alloc_zeroed(large);
                assert!(std::slice::from_raw_parts(block, large.size()).iter().all(|&byte| byte == 0));
                block.write_bytes(7, large.size());
                Allocator.dealloc(block, large);
            }
        }
    }
}
