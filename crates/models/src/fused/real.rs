//! Numbers that kernels compute with, written so that the compiler vectorises the loops.

use burn_backend::Element;
use bytemuck::Pod;
use num_traits::Float;

/// f32 or f64.
pub trait Real: Float + Element + Pod + Send + Sync {
    /// `e^self`; in f32 to about 2 units in the last place, without a branch.
    fn exponential(self) -> Self;

    /// The nearest number of this type.
    fn of(value: f64) -> Self;

    /// A number in f32, exactly.
    fn from_single(value: f32) -> Self;

    /// The number in f64, exactly.
    fn wide(self) -> f64;

    /// Runs a loop with the widest vector instructions that the processor has, as far as it is inlined.
    #[inline(always)]
    fn vectorised(work: impl FnOnce()) {
        pulp::Arch::new().dispatch(work);
    }
}

impl Real for f32 {
    /// `2^n e^r` with `n` the whole number nearest to `x / ln 2`, and `e^r` by its series: |r| is at
    /// most 0.35, so the first term left out is below 6e-9.
    #[inline(always)]
    fn exponential(self) -> Self {
        // adding it leaves the whole number in the low bits
        const ROUND: f32 = 12_582_912.0;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let x = if self < -87.0 { -87.0 } else { self };
        let x = if x > 88.0 { 88.0 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LN_2_HIGH - n * LN_2_LOW;
        let mut series = 1.0 / 5040.0;
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            series = series * r + coefficient;
        }
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
        series * power
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "constants are rounded")]
    fn of(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn from_single(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    #[inline(always)]
    fn exponential(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn from_single(value: f32) -> Self {
        value.into()
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
}

/// `sum_i f(x_i)` over slices of one length, in 16 partial sums.
#[inline(always)]
pub(crate) fn sum<E: Real, const N: usize>(slices: [&[E]; N], f: impl Fn([E; N]) -> E) -> E {
    const LANES: usize = 16;
    let parts = slices.map(|slice| slice.as_chunks::<LANES>());
    let mut lanes = [E::zero(); LANES];
    for chunk in 0..parts[0].0.len() {
        let chunks = parts.map(|(chunks, _)| &chunks[chunk]);
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total = *total + f(chunks.map(|chunk| chunk[lane]));
        }
    }
    let mut total = lanes.into_iter().fold(E::zero(), |a, b| a + b);
    for i in 0..parts[0].1.len() {
        total = total + f(parts.map(|(_, rest)| rest[i]));
    }
    total
}

/// `output_i = f(x_i)` over slices of one length.
#[inline(always)]
pub(crate) fn map<E: Real, const N: usize>(slices: [&[E]; N], output: &mut [E], f: impl Fn([E; N]) -> E) {
    let slices = slices.map(|slice| &slice[..output.len()]);
    for (i, output) in output.iter_mut().enumerate() {
        *output = f(slices.map(|slice| slice[i]));
    }
}

/// `y_i = f(y_i, x_i)` over slices of one length.
#[inline(always)]
pub(crate) fn change<E: Real, const N: usize>(y: &mut [E], slices: [&[E]; N], f: impl Fn(E, [E; N]) -> E) {
    let slices = slices.map(|slice| &slice[..y.len()]);
    for (i, y) in y.iter_mut().enumerate() {
        *y = f(*y, slices.map(|slice| slice[i]));
    }
}

/// The largest of some numbers.
#[inline(always)]
pub(crate) fn largest<E: Real>(slice: &[E]) -> E {
    const LANES: usize = 16;
    let larger = |a: E, b: E| if b > a { b } else { a };
    let (chunks, rest) = slice.as_chunks::<LANES>();
    let mut lanes = [E::neg_infinity(); LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *x);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(E::neg_infinity(), larger)
}

/// Replaces scores x by `e^((x - largest) / temperature)` and returns the largest.
pub(crate) fn exponentials(scores: &mut [f32], temperature: f64) -> f32 {
    let shift = largest(scores);
    let factor = f32::of(1.0 / temperature);
    vectorised!(f32, {
        for x in scores.iter_mut() {
            *x = ((*x - shift) * factor).exponential();
        }
    });
    shift
}
