//! Elementwise products.

use super::{Kernel, Real, real::map};

/// `a b`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product;

impl Kernel<2> for Product {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, inputs: [&[E]; 2], y: &mut [E]) {
        map(inputs, y, |[a, b]| a * b);
    }

    #[inline(always)]
    fn backward<E: Real>(&self, _: usize, [a, b]: [&[E]; 2], _: &[E], g: &[E], [to_a, to_b]: [&mut [E]; 2]) {
        map([b, g], to_a, |[b, g]| b * g);
        map([a, g], to_b, |[a, g]| a * g);
    }
}

/// The tangent of [`Product`], `a' b + a b'`, of a, b and their tangents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProductTangent;

impl Kernel<4> for ProductTangent {
    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, inputs: [&[E]; 4], dy: &mut [E]) {
        map(inputs, dy, |[a, b, da, db]| da * b + a * db);
    }

    #[inline(always)]
    fn backward<E: Real>(
        &self,
        _: usize,
        [a, b, da, db]: [&[E]; 4],
        _: &[E],
        g: &[E],
        [to_a, to_b, to_da, to_db]: [&mut [E]; 4],
    ) {
        map([db, g], to_a, |[db, g]| db * g);
        map([da, g], to_b, |[da, g]| da * g);
        map([b, g], to_da, |[b, g]| b * g);
        map([a, g], to_db, |[a, g]| a * g);
    }
}
