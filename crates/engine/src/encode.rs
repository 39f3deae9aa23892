//! From the examples of a dataset to the tokens a model is trained on, as SFT trainers do it.

use dpg_dataset::Example;
use dpg_models::Model;
use dpg_spec::LossOn;

use crate::{Error, conversation};

/// How examples become tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    /// Longer examples are cut.
    pub(crate) sequence_length: usize,
    /// Which tokens are scored.
    pub(crate) loss_on: LossOn,
    /// End with the end-of-sequence token.
    pub(crate) append_eos: bool,
}

/// The tokens of an example and whether any were cut; it may have no scored token.
pub(crate) fn encode(
    model: &Model,
    example: &Example,
    encoding: Encoding,
) -> Result<(dpg_models::Example, usize), Error> {
    let tokenizer = &model.tokenizer;
    let (mut tokens, mut scored) = match example {
        Example::Text(text) => {
            let tokens = tokenizer.encode_with_special(text)?;
            let scored = vec![encoding.loss_on == LossOn::All; tokens.len()];
            (tokens, scored)
        }
        Example::PromptCompletion { prompt, completion } => {
            let mut tokens = tokenizer.encode_with_special(prompt)?;
            let prompt_len = tokens.len();
            tokens.extend(tokenizer.encode(completion)?);
            let scored = (0..tokens.len()).map(|t| t >= prompt_len || encoding.loss_on == LossOn::All);
            let scored = scored.collect();
            (tokens, scored)
        }
        Example::Messages(turns) => conversation::encode(model, turns, encoding.loss_on)?,
    };
    // a template has written its own end
    if encoding.append_eos && !matches!(example, Example::Messages(_)) {
        let eos = tokenizer.eos().ok_or_else(|| {
            Error::setting(
                "target.sft.append_eos",
                "the target's tokenizer has no end-of-sequence token; set it to false",
            )
        })?;
        if tokens.last() != Some(&eos) {
            tokens.push(eos);
            scored.push(true);
        }
    }
    if let Some(first) = scored.first_mut() {
        *first = false;
    }
    let cut = tokens.len().saturating_sub(encoding.sequence_length);
    let lost = scored[tokens.len() - cut..].iter().filter(|&&scored| scored).count();
    tokens.truncate(encoding.sequence_length);
    scored.truncate(encoding.sequence_length);
    Ok((dpg_models::Example { tokens, scored }, lost))
}
