//! What rows of logits say: the log-probability of a token, `x_t - log sum exp(x)`, and how far two
//! distributions are apart.

use std::sync::Arc;

use super::{
    Kernel, Real,
    real::{largest, map, sum},
};

/// Log-probability of token `targets[row]` under logits; one number a row.
#[derive(Clone, Debug)]
pub(crate) struct LogProb {
    pub(crate) targets: Arc<[u32]>,
}

impl LogProb {
    #[inline(always)]
    fn target(&self, row: usize) -> usize {
        self.targets[row] as usize
    }
}

/// `log sum exp(x)`.
#[inline(always)]
fn log_sum_exp<E: Real>(x: &[E]) -> E {
    let shift = largest(x);
    shift + sum([x], |[x]| (x - shift).exponential()).ln()
}

impl Kernel<1> for LogProb {
    const READS_OUTPUT: bool = true;

    fn output_len(&self, _: usize) -> usize {
        1
    }

    #[inline(always)]
    fn forward<E: Real>(&self, row: usize, [x]: [&[E]; 1], y: &mut [E]) {
        y[0] = x[self.target(row)] - log_sum_exp(x);
    }

    /// `g (e_t - p)`.
    #[inline(always)]
    fn backward<E: Real>(&self, row: usize, [x]: [&[E]; 1], y: &[E], g: &[E], [to_x]: [&mut [E]; 1]) {
        // padding has no gradient
        if g[0] == E::zero() {
            return to_x.fill(E::zero());
        }
        let target = self.target(row);
        let log_sum_exp = x[target] - y[0];
        map([x], to_x, |[x]| -g[0] * (x - log_sum_exp).exponential());
        to_x[target] = to_x[target] + g[0];
    }
}

/// The tangent of [`LogProb`], `x'_t - <p, x'>`, of x and its tangent.
#[derive(Clone, Debug)]
pub(crate) struct LogProbTangent(pub(crate) LogProb);

impl Kernel<2> for LogProbTangent {
    const READS_OUTPUT: bool = true;

    fn output_len(&self, _: usize) -> usize {
        1
    }

    #[inline(always)]
    fn forward<E: Real>(&self, row: usize, [x, dx]: [&[E]; 2], dy: &mut [E]) {
        let shift = largest(x);
        // a second exponential costs less than keeping the first
        let total = sum([x], |[x]| (x - shift).exponential());
        let along = sum([x, dx], |[x, dx]| (x - shift).exponential() * dx);
        dy[0] = dx[self.0.target(row)] - along / total;
    }

    /// `-g p (x' - <p, x'>)` in x and `g (e_t - p)` in x'.
    #[inline(always)]
    fn backward<E: Real>(
        &self,
        row: usize,
        [x, dx]: [&[E]; 2],
        dy: &[E],
        g: &[E],
        [to_x, to_dx]: [&mut [E]; 2],
    ) {
        if g[0] == E::zero() {
            to_x.fill(E::zero());
            return to_dx.fill(E::zero());
        }
        let target = self.0.target(row);
        let mean = dx[target] - dy[0];
        let log_sum_exp = log_sum_exp(x);
        map([x], to_dx, |[x]| -g[0] * (x - log_sum_exp).exponential());
        map([&*to_dx, dx], to_x, |[minus_gp, dx]| minus_gp * (dx - mean));
        to_dx[target] = to_dx[target] + g[0];
    }
}

/// `KL(p || q)` of the distributions of two rows of logits, x and z; one number a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Divergence;

impl Divergence {
    /// Log sums of exponentials of both rows, and <p, x - z>.
    #[inline(always)]
    fn parts<E: Real>(x: &[E], z: &[E]) -> [E; 3] {
        let (of_x, of_z) = (log_sum_exp(x), log_sum_exp(z));
        [of_x, of_z, sum([x, z], |[x, z]| (x - of_x).exponential() * (x - z))]
    }
}

impl Kernel<2> for Divergence {
    fn output_len(&self, _: usize) -> usize {
        1
    }

    #[inline(always)]
    fn forward<E: Real>(&self, _: usize, [x, z]: [&[E]; 2], y: &mut [E]) {
        let [of_x, of_z, difference] = Self::parts(x, z);
        y[0] = difference - of_x + of_z;
    }

    /// `g p (x - z - <p, x - z>)` in x and `g (q - p)` in z.
    #[inline(always)]
    fn backward<E: Real>(&self, _: usize, [x, z]: [&[E]; 2], _: &[E], g: &[E], [to_x, to_z]: [&mut [E]; 2]) {
        let [of_x, of_z, difference] = Self::parts(x, z);
        map([x, z], to_x, |[x, z]| g[0] * (x - of_x).exponential() * (x - z - difference));
        map([x, z], to_z, |[x, z]| g[0] * ((z - of_z).exponential() - (x - of_x).exponential()));
    }
}
