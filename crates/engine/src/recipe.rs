//! The fine-tuning recipe in words, and where it departs from what transformers and TRL do by default.

use std::path::Path;

use dpg_models::{CausalLm, adapter_layout, architecture, dropout};
use dpg_spec::{DecayOn, Lora, LoraTargets, Loss, LrSchedule, Sft, Spec};

use crate::Error;

/// Sentences that say how the target is fine-tuned, the optimizer and the sizes first, and then what a user
/// of transformers' `Trainer` or TRL would not expect; those that apply. The spec's target is a local folder.
pub fn recipe(spec: &Spec) -> Result<Vec<String>, Error> {
    let (sft, folder) = (&spec.target.sft, Path::new(&spec.target.model));
    let lm = architecture(folder)?;
    let optimizer = sft.optimizer.settings();
    let decay = optimizer.weight_decay();
    let mut sentences = vec![format!(
        "{optimizer}; {} examples a step, {} epoch{}, at most {} tokens an example{}.",
        sft.batch_size,
        sft.epochs,
        if sft.epochs == 1 { "" } else { "s" },
        sft.sequence_length,
        around(sft)
    )];
    let mut say = |sentence: String| sentences.push(sentence);
    if let Some(lora) = &spec.target.lora {
        say(lora_sentence(lm.as_ref(), lora, spec.seed)?);
    }
    if sft.batch_size > 1 && sft.loss == Loss::ExampleMean {
        say("The loss of a step is the mean over its examples of each example's mean over its tokens. transformers \
             and TRL take the mean over all tokens of the step, where a long example counts for more."
            .into());
    }
    if optimizer.without_eps_root().is_some() {
        say("AdamW divides by sqrt(v + eps_root) + eps. PyTorch's has no eps_root.".into());
    }
    if decay > 0.0 && sft.decay_on == DecayOn::All {
        say("Weight decay acts on all parameters. transformers leaves out biases and norms.".into());
    }
    match (sft.lr_schedule, warm_up(sft)) {
        (LrSchedule::Constant, None) => {
            let name = "`lr_scheduler_type=\"constant\"`";
            say(format!("The learning rate is constant. transformers' default falls to 0: set {name}."));
        }
        (LrSchedule::Constant, Some(key)) => say(format!(
            "The learning rate is constant after the warm-up. transformers' default falls to 0: set \
             `lr_scheduler_type=\"constant_with_warmup\"` and `{key}`."
        )),
        (LrSchedule::Linear, None) => {}
        (LrSchedule::Linear, Some(key)) => {
            say(format!("transformers' default has no warm-up: set `{key}`."));
        }
        (LrSchedule::Cosine, warm_up) => say(format!(
            "The learning rate falls along a cosine. transformers' default falls in a straight line: set \
             `lr_scheduler_type=\"cosine\"`{}.",
            warm_up.map(|key| format!(" and `{key}`")).unwrap_or_default()
        )),
    }
    if sft.max_grad_norm == 0.0 {
        say("Gradients are not clipped. transformers' default is `max_grad_norm=1.0`: set it to 0.".into());
    } else if sft.max_grad_norm != 1.0 {
        let norm = sft.max_grad_norm;
        say(format!("transformers' default is `max_grad_norm=1.0`: set it to {norm}."));
    }
    let dropout = dropout(folder)?;
    if !dropout.is_empty() {
        let keys: Vec<_> = dropout.iter().map(|(name, share)| format!("`{name}` = {share}")).collect();
        say(format!(
            "There is no dropout. The model's config.json stands for {}, which transformers trains with: set 0 there.",
            keys.join(", ")
        ));
    }
    if let Some(token) = lm.padding() {
        let moved = match (lm.head().tied, decay > 0.0) {
            (true, _) => "; the head, which is tied to it, moves it all the same",
            (false, true) => "; weight decay alone moves it",
            (false, false) => "",
        };
        say(format!(
            "The embedding row of `pad_token_id`, {token}, gets no gradient where it is looked up, as in \
             transformers{moved}."
        ));
    }
    Ok(sentences)
}

/// What is trained in the place of the weights.
fn lora_sentence(lm: &dyn CausalLm, lora: &Lora, seed: u64) -> Result<String, Error> {
    let trained = adapter_layout(lm, lora)?.len();
    let targets = match &lora.targets {
        None => "peft's default layers of this family".into(),
        Some(LoraTargets::All(_)) => "`all-linear` layers".into(),
        Some(LoraTargets::Named(names)) => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("the layers {}", names.join(", "))
        }
    };
    Ok(format!(
        "LoRA adapters of {targets} are trained, {trained} parameters, and the model's {} weights stay: \
         `LoraConfig(r={}, lora_alpha={})`, without dropout. A starts from random numbers of seed {seed}, which are \
         not those that peft draws.",
        lm.layout().len(),
        lora.rank,
        lora.alpha,
    ))
}

/// What a recipe has around its optimizer, as the end of a sentence.
fn around(sft: &Sft) -> String {
    let mut words = String::new();
    match sft.lr_schedule {
        LrSchedule::Constant => {}
        LrSchedule::Linear => words += ", the learning rate falling linearly to 0",
        LrSchedule::Cosine => words += ", the learning rate falling to 0 along a cosine",
    }
    if let Some(key) = warm_up(sft) {
        words += &format!(", after a warm-up, {key}");
    }
    if sft.max_grad_norm > 0.0 {
        words += &format!(", gradients cut to norm {}", sft.max_grad_norm);
    }
    if sft.loss == Loss::TokenMean {
        words += ", the loss a mean over all tokens of a step";
    }
    if sft.packing {
        words += ", examples packed in rows of that length, which an example of a step stands for here";
    }
    if sft.decay_on == DecayOn::Matrices && sft.optimizer.settings().weight_decay() > 0.0 {
        words += ", biases and norms not decayed";
    }
    words
}

/// The warm-up, if there is one, as an argument of transformers.
fn warm_up(sft: &Sft) -> Option<String> {
    match (sft.warmup_steps, sft.warmup_ratio) {
        (0, 0.0) => None,
        (0, ratio) => Some(format!("warmup_ratio={ratio}")),
        (steps, _) => Some(format!("warmup_steps={steps}")),
    }
}

#[cfg(test)]
mod tests {
    use dpg_spec::Syntax;

    use super::*;

    fn of(model: &str, sft: &str) -> String {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(model);
        let spec = format!(
            "name = \"said\"\n[target]\nmodel = {:?}\n[target.sft]\n{sft}\n[metric]\nkind = \"weight_norm\"\n",
            golden.to_string_lossy()
        );
        recipe(&Spec::parse(&spec, Syntax::Toml).unwrap()).unwrap().join("\n")
    }

    const SGD: &str =
        "batch_size = 1\noptimizer = { kind = \"sgd\", learning_rate = 0.1, weight_decay = 0.0 }";

    #[test]
    fn only_what_applies_is_said() {
        let gpt2 = of("gpt2", SGD);
        assert!(gpt2.starts_with("SGD, learning rate 1e-1"), "{gpt2}");
        assert!(gpt2.contains("There is no dropout") && gpt2.contains("`attn_pdrop` = 0.1"), "{gpt2}");
        for words in ["mean over all tokens", "eps_root", "Weight decay", "pad_token_id"] {
            assert!(!gpt2.contains(words), "`{words}` is in {gpt2}");
        }
        let llama = of("llama", "optimizer = { kind = \"adamw\", learning_rate = 0.1, weight_decay = 0.1 }");
        assert!(llama.contains("eps_root") && llama.contains("Weight decay"), "{llama}");
        assert!(!llama.contains("dropout"), "{llama}");
    }

    /// What a user of TRL's defaults need not be told is not said.
    #[test]
    fn trls_own_recipe_departs_in_nothing_but_eps_root() {
        let lines = of("llama", "preset = \"trl\"");
        assert_eq!(lines.lines().count(), 2, "{lines}");
        let (first, departure) = lines.split_once('\n').unwrap();
        for words in ["2e-5", "8 examples a step, 3 epochs", "falling linearly", "norm 1", "all tokens"] {
            assert!(first.contains(words), "`{words}` is not in {first}");
        }
        assert!(departure.contains("eps_root"), "{departure}");
    }

    #[test]
    fn schedules_and_norms_are_named_as_transformers_names_them() {
        for (keys, words) in [
            ("", "set `lr_scheduler_type=\"constant\"`"),
            ("warmup_steps = 5", "`lr_scheduler_type=\"constant_with_warmup\"` and `warmup_steps=5`"),
            ("lr_schedule = \"linear\"\nwarmup_ratio = 0.1", "no warm-up: set `warmup_ratio=0.1`"),
            ("lr_schedule = \"cosine\"", "set `lr_scheduler_type=\"cosine\"`."),
            ("max_grad_norm = 0.5", "set it to 0.5"),
        ] {
            let said = of("llama", &format!("{SGD}\n{keys}"));
            assert!(said.contains(words), "`{words}` is not in {said}");
        }
    }
}
