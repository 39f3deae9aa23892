//! Gradient descent with decoupled weight decay: `theta' = theta - lr (g + wd theta)`.

use dpg_spec::Sgd;

use crate::{
    elementwise::{Elementwise, Formula, Number},
    run,
};

elementwise!(Sgd, 1);

impl Elementwise<1> for Sgd {
    #[inline(always)]
    fn formula(&self, step: run::Step) -> impl Formula<1> {
        let rate = self.learning_rate * step.rate;
        Step { rate, kept: 1.0 - rate * self.weight_decay * step.decay }
    }
}

struct Step {
    rate: f64,
    /// What weight decay leaves of a weight.
    kept: f64,
}

impl Formula<1> for Step {
    #[inline(always)]
    fn next<N: Number>(&self, [theta]: [N; 1], g: N) -> [N; 1] {
        [theta * self.kept - g * self.rate]
    }

    #[inline(always)]
    fn back<N: Number>(&self, _: [N; 1], _: N, [lambda]: [N; 1]) -> ([N; 1], N) {
        ([lambda.clone() * self.kept], lambda * -self.rate)
    }
}

#[cfg(test)]
impl crate::conformance::Reference for Sgd {
    fn steps(&self, run: &crate::Run, theta: &mut [f64], gradients: &[Vec<f64>]) {
        let decays = crate::conformance::decays(run);
        for (i, theta) in theta.iter_mut().enumerate() {
            for (step, g) in gradients.iter().enumerate() {
                let decay = if decays[i] { self.weight_decay * *theta } else { 0.0 };
                *theta -= self.learning_rate * run.rate(step) * (g[i] + decay);
            }
        }
    }
}
