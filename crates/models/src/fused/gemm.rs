//! Matrix products of strided views, into memory that nothing has cleared, or added to what is there.

use std::ops::Range;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::Real;

/// A matrix in a slice: element (i, j) at `start + i rows + j columns`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, E> {
    pub(crate) data: &'a [E],
    pub(crate) shape: [usize; 2],
    pub(crate) strides: [usize; 2],
}

impl<'a, E: Real> View<'a, E> {
    /// `shape[0]` rows of `shape[1]` elements, `stride` apart.
    pub(crate) fn rows(data: &'a [E], shape: [usize; 2], stride: usize) -> Self {
        Self { data, shape, strides: [stride, 1] }
    }

    /// A tensor of two dimensions.
    pub(crate) fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        let stride = |dim: usize| usize::try_from(layout.strides()[dim]).expect("nothing is flipped");
        let shape = tensor.shape();
        Self {
            data: &tensor.storage::<E>()[layout.start_offset()..],
            shape: [shape[0], shape[1]],
            strides: [stride(0), stride(1)],
        }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        let ([m, n], [a, b]) = (self.shape, self.strides);
        Self { data: self.data, shape: [n, m], strides: [b, a] }
    }

    fn check(&self) {
        let last = (self.shape[0] - 1) * self.strides[0] + (self.shape[1] - 1) * self.strides[1];
        assert!(last < self.data.len(), "the view lies in its slice");
    }
}

/// Threads that a product runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The caller's, for products that run side by side.
    One,
    /// All.
    All,
}

/// `a b` as a new contiguous matrix, on all threads.
pub(crate) fn product<E: Real>(a: View<E>, b: View<E>) -> Vec<E> {
    let [m, n] = [a.shape[0], b.shape[1]];
    if m * n * a.shape[1] == 0 {
        return zeros(m * n);
    }
    let mut output = Vec::with_capacity(m * n);
    let pointer = output.spare_capacity_mut().as_mut_ptr().cast::<E>();
    #[expect(unsafe_code, reason = "the product writes every element, so clearing them first is waste")]
    // SAFETY: the buffer holds m n elements, all of which are written before the length says so
    unsafe {
        raw(pointer, [n, 1], false, E::one(), a, b, Threads::All);
        output.set_len(m * n);
    }
    output
}

/// Where both sides of a product are at most that, sums are cut in other places than for others.
const SMALL: usize = 64;

/// `a b` for a b of `n` columns that is made in `parts` of its columns or fewer, each by the thread that multiplies it. The
/// same bits as [`product`]'s.
pub(crate) fn product_by_columns<E: Real>(
    a: View<E>,
    n: usize,
    parts: usize,
    columns: impl Fn(Range<usize>) -> FlexTensor + Sync,
) -> Vec<E> {
    let [m, k] = a.shape;
    if m * n * k == 0 {
        return zeros(m * n);
    }
    let mut output = Vec::with_capacity(m * n);
    let pointer = Pointer(output.spare_capacity_mut().as_mut_ptr().cast::<E>());
    let parts = parts.min(n / (SMALL + 1)).max(1);
    (0..parts).into_par_iter().for_each(|part| {
        let range = part * n / parts..(part + 1) * n / parts;
        let b = columns(range.clone());
        let b = View::of(&b);
        assert_eq!(b.shape, [k, range.len()], "all columns are there");
        #[expect(unsafe_code, reason = "columns of one matrix cannot be lent to threads one by one")]
        // SAFETY: the buffer holds m n elements, of which every part writes its own columns
        unsafe {
            raw(pointer.at(range.start), [n, 1], false, E::one(), a, b, Threads::One);
        }
    });
    #[expect(unsafe_code, reason = "the product writes every element, so clearing them first is waste")]
    // SAFETY: all columns are written
    unsafe {
        output.set_len(m * n);
    }
    output
}

/// Where threads write what is theirs.
struct Pointer<E>(*mut E);

#[expect(unsafe_code, reason = "the compiler cannot know that threads write apart")]
// SAFETY: whoever writes there has to see to it
unsafe impl<E> Sync for Pointer<E> {}

impl<E> Pointer<E> {
    fn at(&self, offset: usize) -> *mut E {
        self.0.wrapping_add(offset)
    }
}

/// `c = factor a b`, or with `add` `c += factor a b`, for rows of c that are `stride` apart.
pub(crate) fn multiply<E: Real>(
    c: &mut [E],
    stride: usize,
    add: bool,
    factor: E,
    a: View<E>,
    b: View<E>,
    threads: Threads,
) {
    let [m, n] = [a.shape[0], b.shape[1]];
    assert!(m > 0 && n > 0 && a.shape[1] > 0, "no side is empty");
    assert!(n <= stride && (m - 1) * stride + n <= c.len(), "the product fits");
    #[expect(unsafe_code, reason = "the product is written in place")]
    // SAFETY: the product lies in `c`
    unsafe {
        raw(c.as_mut_ptr(), [stride, 1], add, factor, a, b, threads);
    }
}

/// # Safety
/// `c` points to memory that holds the product at these strides.
#[expect(unsafe_code, reason = "see above")]
unsafe fn raw<E: Real>(
    c: *mut E,
    strides: [usize; 2],
    add: bool,
    factor: E,
    a: View<E>,
    b: View<E>,
    threads: Threads,
) {
    a.check();
    b.check();
    let ([m, k], [inner, n]) = (a.shape, b.shape);
    assert_eq!(k, inner, "the inner sides agree");
    // as for burn's products: below, starting threads costs more than they save
    let small = m * n * k < 1 << 21;
    let parallelism = match threads {
        Threads::All if !small => gemm::Parallelism::Rayon(0),
        _ => gemm::Parallelism::None,
    };
    let [rs, cs] = strides.map(|stride| stride as isize);
    let [a_rs, a_cs] = a.strides.map(|stride| stride as isize);
    let [b_rs, b_cs] = b.strides.map(|stride| stride as isize);
    let (a, b) = (a.data.as_ptr(), b.data.as_ptr());
    // SAFETY: both views lie in their slices, as checked above, and c is the caller's promise
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            cs,
            rs,
            add,
            a,
            a_cs,
            a_rs,
            b,
            b_cs,
            b_rs,
            E::one(),
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Zeros, written by all threads: on one it takes longer than many operations that follow.
pub(crate) fn zeros<E: Real>(n: usize) -> Vec<E> {
    const SMALL: usize = 1 << 16;
    if n <= SMALL {
        return vec![E::zero(); n];
    }
    (0..n).into_par_iter().with_min_len(SMALL).map(|_| E::zero()).collect()
}
