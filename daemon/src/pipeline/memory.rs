//! Whether a spec's job can fit this machine, before it is taken and again before it runs.
//!
//! What is counted is what a run cannot do without: the vectors of the inner run with the most thrifty
//! storage (see [`dpg_metagrad::Storage`]), one pass, the generator with its moments, and the rollouts held
//! at once. A job that passes may still take more; it then ends its worker process and nothing else
//! (`supervisor.rs`).

use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::tensor::{DType, Device};
use dpg_models::{
    CausalLm, activations, adapter_layout, architecture, available_memory, device::backend_of, weights,
};
use dpg_spec::{Generator, Lora, Spec};

/// Bytes of a number in f32.
const NUMBER: u64 = 4;
/// Bytes of a rollout besides its tokens: texts, the prompt's tokens, and the row made of it.
const ROLLOUT: u64 = 512;
/// Bytes of each new token: its id and log-probability, and both ids and marks as the target is trained.
const TOKEN: u64 = 4 + 8 + 8;
/// Bytes of an example's place in a batch.
const PLACE: u64 = 8;
/// Flat vectors of the generator in an update: weights, both moments, the first generator, the gradient
/// and the next weights.
const GENERATOR: u64 = 6;

/// A job needs more than the machine has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job needs about {} of memory, {} of it for {what}, and this machine has {}; lower it, or give the \
     job to a larger machine",
    size(*needed), size(*part), size(*available)
)]
pub(crate) struct Excess {
    /// The key that asks for the most.
    pub(crate) key: &'static str,
    what: String,
    part: u64,
    needed: u64,
    available: u64,
}

/// A part of what a job needs: the key that asks for it, what it is for, and its bytes.
struct Part(&'static str, String, u64);

/// A model that is not loaded.
pub(crate) struct Sizes {
    pub(crate) lm: Box<dyn CausalLm>,
    /// Numbers that are trained.
    pub(crate) trained: usize,
    /// Bytes of weights beside them.
    pub(crate) frozen: u64,
}

impl Sizes {
    pub(crate) fn of(folder: &Path, lora: Option<&Lora>) -> Result<Self, dpg_models::Error> {
        let lm = architecture(folder)?;
        let (trained, frozen) = match lora {
            None => (lm.layout().len(), 0),
            Some(lora) => (
                adapter_layout(lm.as_ref(), lora)?.len(),
                weights::stored_bytes(folder, lm.layout(), DType::F32)?,
            ),
        };
        Ok(Self { lm, trained, frozen })
    }

    /// Vectors of what is trained, and what is not.
    fn part(&self, key: &'static str, vectors: u64) -> Part {
        let bytes = (self.trained as u64 * NUMBER).saturating_mul(vectors).saturating_add(self.frozen);
        let beside = if self.frozen > 0 { ", and its own weights" } else { "" };
        Part(key, format!("{vectors} vectors of its {} parameters{beside}", self.trained), bytes)
    }
}

/// Refuses a job that cannot fit. Paths in the spec are local.
pub(crate) fn check(spec: &Spec, devices: &[Device]) -> anyhow::Result<()> {
    let in_memory = devices.iter().all(|device| backend_of(device).is_in_host_memory());
    match excess(spec, in_memory, |folder| Some(folder.into())) {
        Some(excess) => bail!("`{}`: {excess}", excess.key),
        None => Ok(()),
    }
}

/// What a job needs too much, if it does. `folder` gives the folder of a model that is on this machine;
/// other models are not counted, and none where devices have a memory of their own.
pub(crate) fn excess(
    spec: &Spec,
    in_memory: bool,
    folder: impl Fn(&str) -> Option<PathBuf>,
) -> Option<Excess> {
    let available = available_memory()?;
    let model = |uri: &str, lora: Option<&Lora>| {
        let folder = folder(uri).filter(|_| in_memory)?;
        // whatever is wrong with it is told when it is loaded
        Sizes::of(&folder, lora).ok()
    };
    let local = spec.generator.as_ref().and_then(Generator::local);
    let generator = local.and_then(|local| model(&local.model, local.lora.as_ref()));
    let target = model(&spec.target.model, spec.target.lora.as_ref());
    over(available, parts(spec, target.as_ref(), generator.as_ref()))
}

fn over(available: u64, parts: Vec<Part>) -> Option<Excess> {
    let needed = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.2));
    let Part(key, what, part) = parts.into_iter().max_by_key(|part| part.2)?;
    (needed > available).then_some(Excess { key, what, part, needed, available })
}

fn parts(spec: &Spec, target: Option<&Sizes>, generator: Option<&Sizes>) -> Vec<Part> {
    let (policy, sft) = (&spec.policy, &spec.target.sft);
    let a_step = product(&[policy.prompts_per_step, policy.group_size]);
    let validation = policy.validation_examples.map_or(a_step, |examples| examples as u64);
    // the draws come one after the other; of equal ones the last counts
    let counts = [
        ("output.examples", spec.output.examples as u64),
        ("policy.validation_examples", validation),
        ("policy.prompts_per_step", a_step),
    ];
    let (key, rollouts) = counts.into_iter().max_by_key(|(_, count)| *count).unwrap_or(counts[0]);
    let new_tokens = spec.generator.as_ref().map_or(0, |generator| generator.max_new_tokens() as u64);
    let each = ROLLOUT + TOKEN * new_tokens;
    let mut parts = vec![
        Part(key, format!("{rollouts} rollouts of up to {new_tokens} tokens"), rollouts.saturating_mul(each)),
        Part(
            "target.sft.epochs",
            format!("the order of {rollouts} examples in {} epochs", sft.epochs),
            rollouts.saturating_mul(PLACE).saturating_mul(sft.epochs as u64),
        ),
    ];
    if let Some(target) = target {
        let lm = target.lm.as_ref();
        let moments = dpg_optim::of(&sft.optimizer).moments() as u64;
        // of one step, or in segments of one step
        let once = sft.epochs == 1 && rollouts <= sft.batch_size as u64;
        let vectors = if once { 5 } else { 3 + 3 * (1 + moments) };
        parts.push(target.part("target.model", vectors));
        let length = sft.sequence_length.min(lm.context());
        let pass = pass(lm, length);
        parts.push(Part("target.sft.sequence_length", format!("a pass over {length} tokens"), pass));
    }
    parts.extend(generator.map(|generator| generator.part("generator.model", GENERATOR)));
    parts
}

/// Bytes of a pass over one sequence: what is kept of each token, and a head's attention.
fn pass(lm: &dyn CausalLm, length: usize) -> u64 {
    let kept = product(&[activations(lm), length]);
    kept.saturating_add(product(&[length, length])).saturating_mul(NUMBER)
}

fn product(numbers: &[usize]) -> u64 {
    numbers.iter().fold(1, |product: u64, number| product.saturating_mul(*number as u64))
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dpg_spec::Syntax;

    use super::*;

    const SPEC: &str = "
name = 'a'
[target]
model = 'embedded:target'
[metric]
kind = 'weight_norm'
[generator]
model = 'embedded:generator'
[policy]
steps = 1
[output]
examples = 1024
";

    fn embedded(uri: &str) -> Option<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/embedded");
        Some(root.join(uri.strip_prefix("embedded:")?))
    }

    #[test]
    fn what_does_not_fit_is_told_by_the_key_that_asks_for_the_most() {
        let machine = 4 << 30;
        for (from, to, key) in [
            ("examples = 1024", "examples = 16000000", "output.examples"),
            ("steps = 1", "group_size = 1000000", "policy.prompts_per_step"),
            (
                "steps = 1",
                "validation_examples = 1000000\nprompts_per_step = 8",
                "policy.validation_examples",
            ),
            ("[metric]", "[target.sft]\nepochs = 1000000\n[metric]", "target.sft.epochs"),
        ] {
            let generous = SPEC.replace("[policy]", "max_new_tokens = 1000\n[policy]");
            let at = |text: &str| Spec::parse(text, Syntax::Toml).unwrap();
            let model = |uri: &str| embedded(uri).and_then(|folder| Sizes::of(&folder, None).ok());
            let (target, generator) = (model("embedded:target"), model("embedded:generator"));
            let found = |text: &str| over(machine, parts(&at(text), target.as_ref(), generator.as_ref()));
            assert_eq!(found(&generous), None);
            let excess = found(&generous.replace(from, to)).unwrap();
            assert_eq!(excess.key, key);
            assert!(excess.to_string().contains("this machine has 4.3 GB"), "{excess}");
        }
    }

    #[test]
    fn a_model_that_does_not_fit_is_told() {
        let spec = Spec::parse(SPEC, Syntax::Toml).unwrap();
        let folder = embedded("embedded:target").unwrap();
        let model = Sizes::of(&folder, None).unwrap();
        let vectors = model.trained as u64 * NUMBER * 5;
        let excess = over(vectors, parts(&spec, Some(&model), None)).unwrap();
        assert_eq!(excess.key, "target.model");
        assert_eq!(excess.part, vectors);
    }

    #[test]
    fn adapters_take_their_vectors_and_frozen_weights_the_bytes_of_their_file() {
        let folder = embedded("embedded:target").unwrap();
        let (whole, adapted) =
            (Sizes::of(&folder, None).unwrap(), Sizes::of(&folder, Some(&Lora::default())).unwrap());
        // the embedded models are stored in bf16
        assert_eq!(adapted.frozen, 2 * whole.trained as u64);
        assert!(20 * adapted.trained < whole.trained, "{} of {}", adapted.trained, whole.trained);
        let Part(_, what, bytes) = adapted.part("target.model", 5);
        assert_eq!(bytes, 5 * 4 * adapted.trained as u64 + adapted.frozen);
        assert!(what.ends_with("and its own weights"), "{what}");
    }
}
