//! The arms of an experiment: its spec, and the spec with one thing changed (the paper's ablations and
//! baselines). All arms draw the same number of examples in all.

use dpg_spec::{Advantage, Metric, Optimizer, Reward, Sgd, Spec};

/// Datasets that a step's rollouts make where a dataset's metric is the reward.
const DATASETS: usize = 8;

/// One way to run an experiment.
#[derive(Debug)]
pub(crate) struct Arm {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is different from the spec.
    pub(crate) change: String,
    /// What is run.
    pub(crate) spec: Spec,
}

/// The arms that make sense for a spec, the spec itself first.
pub(crate) fn arms(spec: &Spec) -> Vec<Arm> {
    let mut arms = vec![Arm { name: "spec", change: "as specified".into(), spec: spec.clone() }];
    let ablations = [sgd(spec), naive(spec), no_cross_group(spec), half_batch(spec), double_batch(spec)];
    arms.extend(ablations.into_iter().flatten());
    arms.extend(plain_target(spec));
    arms.extend(other_secrets(spec));
    if matches!(spec.metric, Metric::HeldOutLoss(_)) {
        arms.push(baseline(spec, "levenshtein", Reward::Levenshtein));
        arms.push(baseline(spec, "embedding", Reward::Embedding));
        arms.push(baseline(spec, "language-id", Reward::LanguageId));
    }
    arms
}

/// Metagradients through SGD. Its learning rate is the slope of AdamW's first step at a gradient of 0,
/// `learning_rate / (sqrt(eps_root) + eps)`: both steps are the same for gradients far below
/// `sqrt(eps_root)`. Weight decay takes the same share of the weights.
fn sgd(spec: &Spec) -> Option<Arm> {
    let Optimizer::Adamw(adamw) = spec.target.sft.optimizer else { return None };
    let scale = 1.0 / (adamw.eps_root.sqrt() + adamw.eps);
    let learning_rate = adamw.learning_rate * scale;
    let mut spec = spec.clone();
    spec.target.sft.optimizer =
        Optimizer::Sgd(Sgd { learning_rate, weight_decay: adamw.weight_decay / scale });
    // those are AdamW's
    spec.schedule.retain(|path, _| !path.starts_with("target.sft.optimizer."));
    Some(Arm { name: "sgd", change: format!("inner SGD, learning rate {learning_rate:.3e}"), spec })
}

/// The naive policy gradient: examples share the metric of the dataset they are in.
fn naive(spec: &Spec) -> Option<Arm> {
    let mut spec = spec.clone();
    let policy = &mut spec.policy;
    let datasets = policy.datasets_per_step.max(DATASETS).min(policy.prompts_per_step);
    if datasets < 2 {
        return None;
    }
    policy.reward = Reward::DatasetMetric;
    policy.advantage = Advantage::Global;
    policy.cross_group_batching = true;
    policy.datasets_per_step = datasets;
    Some(Arm { name: "naive", change: format!("reward: metric of each of {datasets} datasets a step"), spec })
}

/// Each prompt's rollouts are a dataset of their own; nothing of the kind where all prompts are one.
fn no_cross_group(spec: &Spec) -> Option<Arm> {
    spec.generator.as_ref()?.prompts()?;
    let mut spec = spec.clone();
    spec.policy.cross_group_batching = false;
    spec.policy.datasets_per_step = 1;
    Some(Arm { name: "no-cross-group", change: "each prompt's rollouts alone make a dataset".into(), spec })
}

/// A pattern in a target that was trained as language models are, whose hidden states nobody held
/// isotropic.
fn plain_target(spec: &Spec) -> Option<Arm> {
    /// Where the tokens of single characters begin in its vocabulary.
    const COLUMNS: usize = 66;
    let mut spec = spec.clone();
    let Metric::WeightPattern(pattern) = &mut spec.metric else { return None };
    pattern.columns = COLUMNS;
    spec.target.model = "embedded:target".into();
    let change = format!("target `{}`, columns from {COLUMNS}", spec.target.model);
    Some(Arm { name: "plain-target", change, spec })
}

/// The other UUIDs that no model has read.
fn other_secrets(spec: &Spec) -> Vec<Arm> {
    let Metric::HeldOutLoss(held_out) = &spec.metric else { return vec![] };
    if held_out.data.path != "embedded:held-out/uuid.jsonl" {
        return vec![];
    }
    let arm = |(name, path): (&'static str, &str)| {
        let mut held_out = held_out.clone();
        held_out.data.path = path.into();
        let spec = Spec { metric: Metric::HeldOutLoss(held_out), ..spec.clone() };
        Arm { name, change: "another UUID".into(), spec }
    };
    let files =
        [("secret-2", "embedded:held-out/uuid-2.jsonl"), ("secret-3", "embedded:held-out/uuid-3.jsonl")];
    files.map(arm).into()
}

fn half_batch(spec: &Spec) -> Option<Arm> {
    let policy = &spec.policy;
    let (prompts, steps) = (policy.prompts_per_step / 2, policy.steps * 2);
    let is_enough = prompts * policy.group_size >= 2 && prompts >= policy.datasets_per_step;
    let half = || batch(spec, "half-batch", prompts, steps, policy.validate_every * 2);
    is_enough.then(half)
}

fn double_batch(spec: &Spec) -> Option<Arm> {
    let policy = &spec.policy;
    let (prompts, steps) = (policy.prompts_per_step * 2, policy.steps / 2);
    // 0 stays 0: at the start and the end alone
    let double = || batch(spec, "double-batch", prompts, steps, policy.validate_every.div_ceil(2));
    (steps > 0).then(double)
}

/// Other rollouts a step and steps. Minibatches stay as large as they can, and validations as they are.
fn batch(spec: &Spec, name: &'static str, prompts: usize, steps: usize, validate_every: usize) -> Arm {
    let mut spec = spec.clone();
    let policy = &mut spec.policy;
    policy.validation_examples.get_or_insert(policy.prompts_per_step * policy.group_size);
    policy.minibatch_prompts = policy.minibatch_prompts.map(|minibatch| minibatch.min(prompts));
    (policy.prompts_per_step, policy.steps, policy.validate_every) = (prompts, steps, validate_every);
    Arm { name, change: format!("{} rollouts a step", prompts * spec.policy.group_size), spec }
}

/// A reward that knows what good text looks like.
fn baseline(spec: &Spec, name: &'static str, reward: Reward) -> Arm {
    let mut spec = spec.clone();
    spec.policy.reward = reward;
    Arm { name, change: "reward of that name".into(), spec }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burn::tensor::{Device, Tensor};
    use dpg_models::Layout;
    use dpg_optim::{Run, State, of};
    use serde_json::Value;

    use super::*;
    use crate::experiments::specs;

    /// Paths at which two values differ.
    fn differences(a: &Value, b: &Value, at: &str, found: &mut BTreeSet<String>) {
        if let (Value::Object(a), Value::Object(b)) = (a, b) {
            for key in a.keys().chain(b.keys()) {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&of(a), &of(b), &format!("{at}/{key}"), found);
            }
        } else if a != b {
            found.insert(at.into());
        }
    }

    #[test]
    fn every_arm_of_every_spec_is_valid_and_differs_in_what_it_says() {
        for spec in specs().unwrap() {
            let arms = arms(&spec);
            assert_eq!(arms[0].spec, spec);
            let names: BTreeSet<&str> = arms.iter().map(|arm| arm.name).collect();
            let has_texts = matches!(spec.metric, Metric::HeldOutLoss(_));
            let has_prompts = spec.generator.as_ref().unwrap().prompts().is_some();
            for (name, expected) in [
                ("spec", true),
                ("sgd", true),
                ("naive", true),
                ("half-batch", true),
                ("double-batch", true),
                ("no-cross-group", has_prompts),
                ("levenshtein", has_texts),
                ("embedding", has_texts),
                ("language-id", has_texts),
                ("plain-target", matches!(spec.metric, Metric::WeightPattern(_))),
                ("secret-2", spec.name == "uuid"),
                ("secret-3", spec.name == "uuid"),
            ] {
                assert_eq!(names.contains(name), expected, "{} {name}", spec.name);
            }
            for arm in &arms[1..] {
                arm.spec.validate().unwrap_or_else(|error| panic!("{} {}: {error}", spec.name, arm.name));
                let (must, may): (&[&str], &[&str]) = match arm.name {
                    "sgd" => {
                        (&["/target/sft/optimizer/kind"], &["/target/sft/optimizer/", "/schedule/target."])
                    }
                    "naive" => (
                        &["/policy/reward", "/policy/datasets_per_step"],
                        &["/policy/advantage", "/policy/cross_group_batching"],
                    ),
                    "no-cross-group" => (&["/policy/cross_group_batching"], &["/policy/datasets_per_step"]),
                    "half-batch" | "double-batch" => (
                        &["/policy/steps", "/policy/prompts_per_step"],
                        &["/policy/minibatch_prompts", "/policy/validat"],
                    ),
                    "plain-target" => (&["/target/model", "/metric/columns"], &[]),
                    "secret-2" | "secret-3" => (&["/metric/data/path"], &[]),
                    _ => (&["/policy/reward"], &[]),
                };
                let mut found = BTreeSet::new();
                let value = |spec: &Spec| serde_json::to_value(spec).unwrap();
                differences(&value(&spec), &value(&arm.spec), "", &mut found);
                for path in must {
                    assert!(found.remove(*path), "{} {}: `{path}` is the same", spec.name, arm.name);
                }
                found.retain(|path| !may.iter().any(|allowed| path.starts_with(allowed)));
                assert!(found.is_empty(), "{} {}: {found:?}", spec.name, arm.name);
                let examples = |spec: &Spec| {
                    let policy = &spec.policy;
                    policy.steps * policy.prompts_per_step * policy.group_size
                };
                assert_eq!(examples(&arm.spec), examples(&spec), "{} {}", spec.name, arm.name);
            }
        }
    }

    #[test]
    fn sgd_steps_as_adamw_does_on_small_gradients() {
        for spec in specs().unwrap() {
            let Optimizer::Adamw(adamw) = spec.target.sft.optimizer else { continue };
            let small = adamw.eps_root.sqrt() / 100.0;
            let mut layout = Layout::default();
            layout.push("theta", &[3], false);
            let stepped = |optimizer| {
                let values = |values: [f64; 3]| Tensor::<1>::from_floats(values, &Device::flex());
                let state = State::new(values([0.0, 0.0, 1e-3]));
                let next =
                    of(&optimizer).step(&Run::constant(&layout), 0, state, &values([small, -small, 0.0]));
                next.theta.to_data().iter::<f64>().collect::<Vec<_>>()
            };
            let expected = stepped(spec.target.sft.optimizer);
            let found = stepped(sgd(&spec).unwrap().spec.target.sft.optimizer);
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-3, "{}: {found}, {expected}", spec.name);
            }
        }
    }
}
