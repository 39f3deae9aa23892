//! A policy over arms as it is saved: its numbers, and whose they are.

use burn::tensor::{DType, Device, Tensor};
use dpg_optim::State;
use dpg_policy::Categorical;
use serde_json::Value;

use crate::{Error, Saved};

/// Names among what is saved, each after a prefix.
const LOGITS: &str = "logits";
const MOMENTS: [&str; 2] = ["m", "v"];
const APPLIED: &str = "applied";
const ARMS: &str = "arms";

/// Adds a policy over arms of these names to what is saved.
pub(crate) fn save(policy: &Categorical, arms: Value, prefix: &str, saved: &mut Saved) {
    let values = policy.state.vectors().map(|vector| vector.to_data_as::<f32>().iter::<f32>().collect());
    let names = std::iter::once(LOGITS).chain(MOMENTS).map(|name| format!("{prefix}{name}"));
    saved.vectors.extend(names.zip(values));
    saved.facts.insert(format!("{prefix}{APPLIED}"), policy.applied.into());
    saved.facts.insert(format!("{prefix}{ARMS}"), arms);
}

/// The policy that was saved, of as many arms as `fresh` has.
pub(crate) fn read(
    saved: &Saved,
    arms: &Value,
    prefix: &str,
    fresh: &Categorical,
) -> Result<Categorical, Error> {
    let wrong = |reason: String| Error::Saved { reason };
    if saved.facts.get(&format!("{prefix}{ARMS}")) != Some(arms) {
        return Err(wrong("its arms are others, or none".into()));
    }
    let count = fresh.probabilities().len();
    let vector = |name: &str| {
        let name = format!("{prefix}{name}");
        let found = saved.vectors.iter().find(|(other, _)| *other == name);
        let values = &found.ok_or_else(|| wrong(format!("it has no `{name}`")))?.1;
        if values.len() != count {
            return Err(wrong(format!("`{name}` has {} numbers, expected {count}", values.len())));
        }
        Ok(Tensor::from_data(values.as_slice(), (&Device::flex(), DType::F32)))
    };
    let applied = format!("{prefix}{APPLIED}");
    let steps = saved.facts.get(&applied).and_then(Value::as_u64);
    let steps = steps.ok_or_else(|| wrong(format!("it has no `{applied}`")))? as usize;
    let mut state = State::new(vector(LOGITS)?);
    if steps > 0 {
        state.moments = MOMENTS.into_iter().map(vector).collect::<Result<_, _>>()?;
    }
    let mut policy = fresh.clone();
    (policy.state, policy.applied) = (state, steps);
    Ok(policy)
}

/// The same with what it learnt alone, to start a run of its own.
pub(crate) fn read_learnt(
    saved: &Saved,
    arms: &Value,
    prefix: &str,
    fresh: &Categorical,
) -> Result<Categorical, Error> {
    let mut policy = read(saved, arms, prefix, fresh)?;
    (policy.state, policy.applied) = (State::new(policy.state.theta), 0);
    Ok(policy)
}
