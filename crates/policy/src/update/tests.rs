use burn::tensor::DType;
use dpg_models::{logits_at, places};

use super::*;
use crate::objective::tests::{model, numbers, rollouts, sampling};

fn settings() -> dpg_spec::Policy {
    dpg_spec::Policy { steps: 20, learning_rate: 3e-3, group_size: 2, ..dpg_spec::Policy::default() }
}

struct Learner {
    lm: Box<dyn CausalLm>,
    theta: Tensor<1>,
}

impl Learner {
    fn new() -> Self {
        let (lm, theta) = model(DType::F32);
        Self { lm, theta }
    }

    fn update(
        &self,
        settings: &dpg_spec::Policy,
        rollouts: &[Rollout],
    ) -> Result<(State, usize, UpdateStats), Error> {
        let policy = Policy {
            lm: self.lm.as_ref(),
            initial: &self.theta,
            settings,
            microbatch: 3,
            devices: &[Device::flex()],
        };
        let state = State::new(self.theta.clone());
        update(&policy, state, 0, rollouts, &sampling())
    }

    /// Sum of log-probabilities of a rollout's completion.
    fn log_prob(&self, theta: &Tensor<1>, rollout: &Rollout) -> f64 {
        let rollout = std::slice::from_ref(rollout);
        numbers(self.lm.as_ref(), theta, rollout, &sampling()).log_probs.sum().into_scalar::<f64>()
    }
}

#[test]
fn better_rollouts_become_likelier_and_worse_ones_rarer() {
    let learner = Learner::new();
    let rollouts = rollouts(learner.lm.as_ref(), &learner.theta, 8);
    let (state, applied, report) = learner.update(&settings(), &rollouts).unwrap();
    assert_eq!(applied, 1);
    for rollout in &rollouts {
        let change = learner.log_prob(&state.theta, rollout) - learner.log_prob(&learner.theta, rollout);
        assert!(change * rollout.advantage > 0.0, "{change} at advantage {}", rollout.advantage);
    }
    assert!(report.log_prob_gap < 1e-4 && report.gradient_norm > 0.0 && report.entropy > 0.0, "{report:?}");
    assert_eq!((report.kl, report.clip_fraction), (0.0, 0.0));
}

#[test]
fn minibatches_take_a_step_each() {
    let learner = Learner::new();
    let rollouts = rollouts(learner.lm.as_ref(), &learner.theta, 8);
    let settings = dpg_spec::Policy { minibatch_prompts: Some(1), ..settings() };
    let (_, applied, _) = learner.update(&settings, &rollouts).unwrap();
    assert_eq!(applied, 4);
}

#[test]
fn microbatches_and_devices_change_nothing_but_rounding() {
    let learner = Learner::new();
    let rollouts = rollouts(learner.lm.as_ref(), &learner.theta, 8);
    let settings = dpg_spec::Policy { kl: 0.1, entropy: 0.01, ..settings() };
    let run = |microbatch, devices: usize| {
        let devices = vec![Device::flex(); devices];
        let policy = Policy {
            lm: learner.lm.as_ref(),
            initial: &learner.theta,
            settings: &settings,
            microbatch,
            devices: &devices,
        };
        let state = State::new(learner.theta.clone());
        update(&policy, state, 0, &rollouts, &sampling()).unwrap().2
    };
    let all = run(8, 1);
    for (microbatch, devices) in [(1, 1), (8, 2), (2, 3)] {
        let other = run(microbatch, devices);
        for (ours, expected) in [
            (other.gradient_norm, all.gradient_norm),
            (other.kl + 1.0, all.kl + 1.0),
            (other.entropy, all.entropy),
        ] {
            assert!((ours / expected - 1.0).abs() < 1e-4, "{other:?} and {all:?}");
        }
        assert_eq!(run(microbatch, devices), other, "run again");
    }
}

#[test]
fn the_kl_term_holds_the_policy_to_the_initial_generator() {
    let learner = Learner::new();
    let rollouts = rollouts(learner.lm.as_ref(), &learner.theta, 8);
    let distance = |kl: f64| {
        let settings = dpg_spec::Policy { kl, max_grad_norm: 0.0, ..settings() };
        let policy = Policy {
            lm: learner.lm.as_ref(),
            initial: &learner.theta,
            settings: &settings,
            microbatch: 8,
            devices: &[Device::flex()],
        };
        let mut state = State::new(learner.theta.clone());
        for applied in 0..8 {
            // old log-probabilities of the moved policy: the check is for the sampler, not for this
            let mut rollouts = rollouts.clone();
            for rollout in &mut rollouts {
                let alone = std::slice::from_ref(&*rollout);
                let moved = numbers(learner.lm.as_ref(), &state.theta, alone, &sampling());
                rollout.completion.log_probs = moved.log_probs.to_data().iter().collect();
            }
            state = update(&policy, state, applied, &rollouts, &sampling()).unwrap().0;
        }
        let rows = [vec![1, 2, 3]];
        let logits = |theta: &Tensor<1>| {
            let params = Params::new(learner.lm.layout(), theta);
            logits_at(learner.lm.as_ref(), &params, &rows, &places(&rows)).primal
        };
        (logits(&state.theta) - logits(&learner.theta)).powf_scalar(2.0).mean().into_scalar::<f64>()
    };
    let (free, held) = (distance(0.0), distance(50.0));
    assert!(held < 0.5 * free, "{held} and {free}");
}

#[test]
fn a_wrong_log_probability_stops_the_run() {
    let learner = Learner::new();
    let mut rollouts = rollouts(learner.lm.as_ref(), &learner.theta, 4);
    rollouts[2].completion.log_probs[0] -= 0.1;
    assert!(matches!(learner.update(&settings(), &rollouts), Err(Error::LogProbGap { .. })));
    rollouts[2].completion.log_probs[0] = f64::NAN;
    assert!(matches!(learner.update(&settings(), &rollouts), Err(Error::LogProbGap { .. })));
}

#[test]
fn a_gradient_that_is_not_finite_stops_the_run() {
    let learner = Learner::new();
    let mut rollouts = rollouts(learner.lm.as_ref(), &learner.theta, 4);
    rollouts[1].advantage = f64::INFINITY;
    assert!(matches!(learner.update(&settings(), &rollouts), Err(Error::Diverged { .. })));
}

/// Decoding and the training forward round alike, so that they differ by far less than the tolerance.
#[test]
fn lower_precision_stays_within_its_tolerance() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded/generator");
    let mut lm = dpg_models::architecture(&folder).unwrap();
    let theta = dpg_models::weights::load::<f32>(&folder, lm.layout()).unwrap();
    let theta = Tensor::<1>::from_data(theta.as_slice(), &burn::tensor::Device::flex());
    let prompts: Vec<Vec<u32>> =
        (0..24).map(|row| (0..=row).map(|token| 3 * token + row).collect()).collect();
    let sampling = Sampling { temperature: 1.0, max_new_tokens: 24, stop: vec![], ..sampling() };
    for precision in [MatmulPrecision::F32, MatmulPrecision::Tf32, MatmulPrecision::Bf16] {
        lm.set_precision(precision);
        let completions = dpg_models::sample(lm.as_ref(), &theta, &prompts, &sampling).unwrap();
        let rollouts: Vec<Rollout> = (prompts.iter().cloned().zip(completions))
            .map(|(prompt, completion)| Rollout { prompt, completion, advantage: 1.0 })
            .collect();
        let settings = settings();
        let devices = [burn::tensor::Device::flex()];
        let policy = Policy {
            lm: lm.as_ref(),
            initial: &theta,
            settings: &settings,
            microbatch: 8,
            devices: &devices,
        };
        let state = State::new(theta.clone());
        let (_, _, report) = update(&policy, state, 0, &rollouts, &sampling).unwrap();
        assert!(report.log_prob_gap < log_prob_tolerance(precision) / 2.0, "{precision:?}: {report:?}");
    }
}
