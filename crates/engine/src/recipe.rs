//! The fine-tuning recipe in words, and where it departs from what transformers and TRL do by default.

use std::path::Path;

use dpg_models::{architecture, dropout};
use dpg_spec::{Optimizer, Spec};

use crate::Error;

/// Sentences that say how the target is fine-tuned, the optimizer and the sizes first, and then what a user
/// of transformers' `Trainer` or TRL would not expect; those that apply. The spec's target is a local folder.
pub fn recipe(spec: &Spec) -> Result<Vec<String>, Error> {
    let (sft, folder) = (&spec.target.sft, Path::new(&spec.target.model));
    let lm = architecture(folder)?;
    let (optimizer, decay) = match sft.optimizer {
        Optimizer::Adamw(a) => (
            format!(
                "AdamW, learning rate {:e}, betas {:?}, eps {:e}, eps_root {:e}, weight decay {:e}",
                a.learning_rate, a.betas, a.eps, a.eps_root, a.weight_decay
            ),
            a.weight_decay,
        ),
        Optimizer::Sgd(s) => (
            format!("SGD, learning rate {:e}, weight decay {:e}", s.learning_rate, s.weight_decay),
            s.weight_decay,
        ),
    };
    let mut sentences = vec![format!(
        "{optimizer}; {} examples a step, {} epoch(s), at most {} tokens an example.",
        sft.batch_size, sft.epochs, sft.sequence_length
    )];
    let mut say = |sentence: String| sentences.push(sentence);
    if sft.batch_size > 1 {
        say("The loss of a step is the mean over its examples of each example's mean over its tokens. transformers \
             and TRL take the mean over all tokens of the step, where a long example counts for more."
            .into());
    }
    if let Optimizer::Adamw(a) = sft.optimizer
        && a.eps_root > 0.0
    {
        say("AdamW divides by sqrt(v + eps_root) + eps. PyTorch's has no eps_root.".into());
    }
    if decay > 0.0 {
        say("Weight decay acts on all parameters. transformers leaves out biases and norms.".into());
    }
    say("The learning rate is constant. transformers' default falls to 0: set `lr_scheduler_type=\"constant\"`.".into());
    say("Gradients are not clipped. transformers' default is `max_grad_norm=1.0`: set it to 0.".into());
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

#[cfg(test)]
mod tests {
    use dpg_spec::Syntax;

    use super::*;

    fn of(model: &str, optimizer: &str) -> String {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden").join(model);
        let spec = format!(
            "name = \"said\"\n[target]\nmodel = {:?}\n[target.sft]\noptimizer = {optimizer}\nbatch_size = 1\n\
             [metric]\nkind = \"weight_norm\"\n",
            golden.to_string_lossy()
        );
        recipe(&Spec::parse(&spec, Syntax::Toml).unwrap()).unwrap().join("\n")
    }

    #[test]
    fn only_what_applies_is_said() {
        let gpt2 = of("gpt2", "{ kind = \"sgd\", learning_rate = 0.1, weight_decay = 0.0 }");
        assert!(gpt2.starts_with("SGD, learning rate 1e-1"), "{gpt2}");
        assert!(gpt2.contains("There is no dropout") && gpt2.contains("`attn_pdrop` = 0.1"), "{gpt2}");
        for words in ["mean over all tokens", "eps_root", "Weight decay", "pad_token_id"] {
            assert!(!gpt2.contains(words), "`{words}` is in {gpt2}");
        }
        let llama = of("llama", "{ kind = \"adamw\", learning_rate = 0.1, weight_decay = 0.1 }");
        assert!(llama.contains("eps_root") && llama.contains("Weight decay"), "{llama}");
        assert!(!llama.contains("dropout"), "{llama}");
    }
}
