//! A policy over a few choices that have no order, by the objective of a generator's: each draw is one token.
//!
//! ```text
//! J = (1/N) sum_draws  min(q A, clip(q, 1-c, 1+c) A) - kl KL(pi || init) + entropy H(pi)
//! q = pi / pi_old of the drawn choice,  pi = softmax(theta)
//! ```
//!
//! Its gradient is written down, in f64: `d log pi_a / d theta_k = [a = k] - pi_k`.

use burn::tensor::{DType, Device, Tensor};
use dpg_models::Layout;
use dpg_optim::{Optimizer, Run, State};
use dpg_spec::Policy;

use crate::{
    Error, UpdateStats,
    update::{minibatch, optimizer},
};

/// Logits and the optimizer's state.
#[derive(Clone, Debug)]
pub struct Categorical {
    layout: Layout,
    /// Logits, and AdamW's moments, `[choices]` each.
    pub state: State,
    /// Optimizer steps made.
    pub applied: usize,
}

/// A draw: the choice and its advantage.
pub(crate) type Draw = (usize, f64);

impl Categorical {
    /// All of `choices` as likely.
    pub fn uniform(choices: usize) -> Self {
        let mut layout = Layout::default();
        layout.push("choices", &[choices], false);
        Self { layout, state: State::new(vector(&vec![0.0; choices])), applied: 0 }
    }

    /// The probability of each choice.
    pub fn probabilities(&self) -> Vec<f64> {
        softmax(&self.logits())
    }

    /// The choice at a place from 0 to 1 in the order of all.
    pub fn at(&self, place: f64) -> usize {
        choice_at(&self.probabilities(), place).unwrap_or_else(|| self.likeliest())
    }

    /// The first of the likeliest choices.
    pub fn likeliest(&self) -> usize {
        let probabilities = self.probabilities();
        (0..probabilities.len())
            .rev()
            .max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]))
            .unwrap_or(0)
    }

    fn logits(&self) -> Vec<f64> {
        self.state.theta.to_data_as::<f64>().iter::<f64>().collect()
    }

    /// One pass of minibatches over a step's draws, which are group after group; an AdamW step each. The KL term holds
    /// it to the uniform policy.
    pub fn learn(&mut self, draws: &[(usize, f64)], settings: &Policy) -> Result<UpdateStats, Error> {
        let optimizer = optimizer(settings);
        let old = self.probabilities();
        let rows = minibatch(settings, draws.len());
        let mut report = UpdateStats { entropy: entropy(&old), ..UpdateStats::default() };
        for minibatch in draws.chunks(rows.max(1)) {
            let logits = self.logits();
            let now = softmax(&logits);
            let outside = |(choice, _): &&Draw| (now[*choice] / old[*choice] - 1.0).abs() > settings.clip;
            report.clip_fraction += minibatch.iter().filter(outside).count() as f64 / draws.len() as f64;
            if settings.kl > 0.0 {
                report.kl += divergence(&now) * minibatch.len() as f64 / draws.len() as f64;
            }
            let mut descent: Vec<f64> =
                gradient(&logits, &old, minibatch, settings).iter().map(|g| -g).collect();
            let norm = descent.iter().map(|g| g * g).sum::<f64>().sqrt();
            if !norm.is_finite() {
                return Err(Error::Diverged { what: format!("the gradient's norm is {norm}") });
            }
            report.gradient_norm = report.gradient_norm.max(norm);
            if settings.max_grad_norm > 0.0 && norm > settings.max_grad_norm {
                for g in &mut descent {
                    *g *= settings.max_grad_norm / norm;
                }
            }
            let state = State { theta: self.state.theta.clone(), moments: self.state.moments.clone() };
            self.state = optimizer.step(&Run::constant(&self.layout), self.applied, state, &vector(&descent));
            self.applied += 1;
        }
        Ok(report)
    }
}

fn vector(values: &[f64]) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    Tensor::from_data(values.as_slice(), (&Device::flex(), DType::F32))
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let masses: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = masses.iter().sum();
    masses.into_iter().map(|mass| mass / sum).collect()
}

/// p log p, which is 0 for what never happens.
fn weighed(p: f64) -> f64 {
    if p > 0.0 { p * p.ln() } else { 0.0 }
}

fn entropy(pi: &[f64]) -> f64 {
    -pi.iter().map(|p| weighed(*p)).sum::<f64>()
}

/// KL(pi || uniform).
fn divergence(pi: &[f64]) -> f64 {
    (pi.len() as f64).ln() - entropy(pi)
}

/// The choice at a place from 0 to 1 where choices of these probabilities lie side by side; none behind the last one,
/// since their sum may be a little less than 1.
pub fn choice_at(probabilities: &[f64], place: f64) -> Option<usize> {
    let mut sum = 0.0;
    probabilities.iter().position(|probability| {
        sum += probability;
        place < sum
    })
}

/// dJ/dtheta.
fn gradient(logits: &[f64], old: &[f64], draws: &[Draw], settings: &Policy) -> Vec<f64> {
    let pi = softmax(logits);
    let mut gradient = vec![0.0; pi.len()];
    for (choice, advantage) in draws {
        let ratio = pi[*choice] / old[*choice];
        let clipped =
            if *advantage > 0.0 { ratio > 1.0 + settings.clip } else { ratio < 1.0 - settings.clip };
        if !clipped {
            let gain = ratio * advantage / draws.len() as f64;
            gradient[*choice] += gain;
            gradient.iter_mut().zip(&pi).for_each(|(g, p)| *g -= gain * p);
        }
    }
    // both are minus the entropy, up to a constant
    let factor = settings.kl + settings.entropy;
    let entropy = entropy(&pi);
    gradient.iter_mut().zip(&pi).for_each(|(g, p)| *g -= factor * (weighed(*p) + p * entropy));
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(logits: &[f64], old: &[f64], draws: &[Draw], settings: &Policy) -> f64 {
        let pi = softmax(logits);
        let gain = |(choice, advantage): &Draw| {
            let ratio = pi[*choice] / old[*choice];
            (ratio * advantage).min(ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip) * advantage)
        };
        draws.iter().map(gain).sum::<f64>() / draws.len() as f64 - settings.kl * divergence(&pi)
            + settings.entropy * entropy(&pi)
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        // ratios inside of the bounds and outside, with advantages of both signs
        let (logits, old) = ([0.3, -0.4, 0.9, 0.0], softmax(&[0.1, 0.5, 0.2, 0.05]));
        let draws = [(0, 1.0), (0, -0.5), (1, 2.0), (1, -1.5), (2, 0.7), (2, -0.3), (3, 1.1)];
        let settings = Policy { clip: 0.2, kl: 0.3, entropy: 0.07, ..Policy::default() };
        let found = gradient(&logits, &old, &draws, &settings);
        for at in 0..logits.len() {
            let moved = |by: f64| {
                let mut logits = logits;
                logits[at] += by;
                objective(&logits, &old, &draws, &settings)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((found[at] - difference).abs() < 1e-8, "{at}: {} {difference}", found[at]);
        }
    }

    #[test]
    fn what_is_praised_becomes_likelier_and_the_kl_term_holds_it_back() {
        let learnt = |kl: f64| {
            let mut policy = Categorical::uniform(3);
            let settings = Policy { learning_rate: 0.1, kl, ..Policy::default() };
            let draws = [(0, -1.0), (1, 2.0), (2, -1.0), (1, 2.0), (0, -1.0), (2, -1.0)];
            let reports: Vec<_> = (0..40).map(|_| policy.learn(&draws, &settings).unwrap()).collect();
            assert!((reports[0].entropy - 3_f64.ln()).abs() < 1e-12);
            assert!(reports[39].entropy < reports[0].entropy);
            assert_eq!(policy.likeliest(), 1);
            policy.probabilities()[1]
        };
        let (free, held) = (learnt(0.0), learnt(10.0));
        assert!(free > 0.9 && held < 0.8 && held > 1.0 / 3.0, "{free} {held}");
    }

    #[test]
    fn places_are_shared_out_by_probability() {
        let policy = Categorical::uniform(4);
        assert_eq!([0.0, 0.3, 0.6, 0.99].map(|place| policy.at(place)), [0, 1, 2, 3]);
        assert_eq!(policy.likeliest(), 0);
    }
}
