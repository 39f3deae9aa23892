//! AdamW (Loshchilov and Hutter, 2019) with `eps_root` under the root, which makes the step
//! differentiable at g = 0. With n = step + 1:
//!
//! ```text
//! m' = b1 m + (1 - b1) g         mh = m' / (1 - b1^n)
//! v' = b2 v + (1 - b2) g^2       vh = v' / (1 - b2^n)
//! r  = sqrt(vh + eps_root)       d  = r + eps
//! theta' = theta - lr (mh / d + wd theta)
//! ```

use dpg_spec::AdamW;

use crate::{
    elementwise::{Elementwise, Formula, Number},
    run,
};

elementwise!(AdamW, 3);

/// Below the root of the smallest normal f32, so that r = 0 (no gradient yet, eps_root = 0) divides
/// a zero by something.
const SMALLEST_ROOT: f64 = 1e-19;

/// A step with its bias corrections 1 - b^n.
struct Step<'a> {
    settings: &'a AdamW,
    learning_rate: f64,
    /// What weight decay leaves of a weight.
    kept: f64,
    corrections: [f64; 2],
}

impl Elementwise<3> for AdamW {
    #[inline(always)]
    fn formula(&self, step: run::Step) -> impl Formula<3> {
        let learning_rate = self.learning_rate * step.rate;
        let corrections = self.betas.map(|beta| 1.0 - beta.powf(step.number as f64 + 1.0));
        Step {
            settings: self,
            learning_rate,
            kept: 1.0 - learning_rate * self.weight_decay * step.decay,
            corrections,
        }
    }
}

impl Step<'_> {
    /// m' and v'.
    #[inline(always)]
    fn moments<N: Number>(&self, m: N, v: N, g: N) -> [N; 2] {
        let [b1, b2] = self.settings.betas;
        [m * b1 + g.clone() * (1.0 - b1), v * b2 + g.clone() * (1.0 - b2) * g]
    }
}

impl Formula<3> for Step<'_> {
    #[inline(always)]
    fn next<N: Number>(&self, [theta, m, v]: [N; 3], g: N) -> [N; 3] {
        let ([c1, c2], settings) = (self.corrections, self.settings);
        let [m, v] = self.moments(m, v, g);
        let d = (v.clone() / c2 + settings.eps_root).root() + settings.eps;
        [theta * self.kept - m.clone() * (self.learning_rate / c1) / d, m, v]
    }

    #[inline(always)]
    fn back<N: Number>(&self, before: [N; 3], g: N, adjoint: [N; 3]) -> ([N; 3], N) {
        let ([c1, c2], settings) = (self.corrections, self.settings);
        let [b1, b2] = settings.betas;
        let ([_, m, v], [lambda, lambda_m, lambda_v]) = (before, adjoint);
        let [m, v] = self.moments(m, v, g.clone());
        let r = (v / c2 + settings.eps_root).root().at_least(SMALLEST_ROOT);
        let d = r.clone() + settings.eps;
        // theta' = .. - lr mh / d, read backwards
        let per_d = lambda.clone() * (self.learning_rate / c1) / d.clone();
        let lambda_m = lambda_m - per_d.clone();
        let lambda_v = lambda_v + per_d * (0.5 / c2) * m / d / r;
        let u = lambda_m.clone() * (1.0 - b1) + lambda_v.clone() * (2.0 * (1.0 - b2)) * g;
        ([lambda * self.kept, lambda_m * b1, lambda_v * b2], u)
    }
}

#[cfg(test)]
impl crate::conformance::Reference for AdamW {
    fn steps(&self, run: &crate::Run, theta: &mut [f64], gradients: &[Vec<f64>]) {
        let ([b1, b2], decays) = (self.betas, crate::conformance::decays(run));
        for (i, theta) in theta.iter_mut().enumerate() {
            let (mut m, mut v) = (0.0, 0.0);
            for (step, g) in gradients.iter().enumerate() {
                let (g, rate, n) = (g[i], self.learning_rate * run.rate(step), step as i32 + 1);
                if decays[i] {
                    *theta -= rate * self.weight_decay * *theta;
                }
                m = b1 * m + (1.0 - b1) * g;
                v = b2 * v + (1.0 - b2) * g * g;
                let (m_hat, v_hat) = (m / (1.0 - b1.powi(n)), v / (1.0 - b2.powi(n)));
                *theta -= rate * m_hat / ((v_hat + self.eps_root).sqrt() + self.eps);
            }
        }
    }
}
