//! New vectors, filled by tasks on all threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::Real;

/// Fills `N` vectors of `lengths[i]` elements on all threads: each task gets its number and the next
/// `parts[i]` elements of every vector, zeros at first. Also what the tasks return, in their order.
///
/// Each part is cleared by the task that fills it, while it is in a core's cache: to clear the vectors as a
/// whole would pass over memory once more.
pub(super) fn fill<E: Real, T: Send, const N: usize>(
    lengths: [usize; N],
    parts: [usize; N],
    task: impl Fn(usize, [&mut [E]; N]) -> T + Sync,
) -> ([Vec<E>; N], Vec<T>) {
    let mut vectors: [Vec<E>; N] = lengths.map(Vec::with_capacity);
    let mut sizes = lengths.into_iter().zip(parts);
    let mut chunks = vectors.each_mut().map(|vector| {
        let (length, part) = sizes.next().expect("a size for each vector");
        vector.spare_capacity_mut()[..length].chunks_mut(part)
    });
    let tasks: Vec<[&mut [MaybeUninit<E>]; N]> = (0..lengths[0].div_ceil(parts[0]))
        .map(|_| chunks.each_mut().map(|chunks| chunks.next().expect("every vector has as many parts")))
        .collect();
    assert!(chunks.iter().all(|chunks| chunks.len() == 0), "every vector has as many parts");
    let tasks = tasks.into_par_iter().enumerate();
    let returned = tasks.map(|(number, parts)| task(number, parts.map(cleared))).collect();
    for (vector, length) in vectors.iter_mut().zip(lengths) {
        #[expect(unsafe_code, reason = "clearing the vectors beforehand passes over memory once more")]
        // SAFETY: the tasks' parts are the first `length` elements, and every task has cleared its own
        unsafe {
            vector.set_len(length);
        }
    }
    (vectors, returned)
}

/// [`fill`] for one vector.
pub(super) fn fill_one<E: Real>(length: usize, part: usize, task: impl Fn(usize, &mut [E]) + Sync) -> Vec<E> {
    let ([vector], _) = fill([length], [part], |number, [part]| task(number, part));
    vector
}

fn cleared<E: Real>(part: &mut [MaybeUninit<E>]) -> &mut [E] {
    part.fill(MaybeUninit::new(E::zero()));
    #[expect(unsafe_code, reason = "see above")]
    // SAFETY: all of it was just written
    unsafe {
        part.assume_init_mut()
    }
}
