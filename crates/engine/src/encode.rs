//! From the examples of a dataset to the tokens a model is trained on, as TRL makes them.

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
    let end = encoding.append_eos;
    if end && tokenizer.eos().is_none() && !matches!(example, Example::Messages(_)) {
        return Err(Error::setting(
            "target.sft.append_eos",
            "the target's tokenizer has no end-of-sequence token; set it to false",
        ));
    }
    let from = |begin: usize, len: usize| (0..len).map(move |t| t >= begin).collect();
    let (mut tokens, mut scored): (Vec<u32>, Vec<bool>) = match example {
        // a text has no prompt, so all of it is scored whatever `loss_on` says
        Example::Text(text) => {
            let tokens = tokenizer.encode_text(text, end)?;
            let scored = from(0, tokens.len());
            (tokens, scored)
        }
        Example::PromptCompletion { prompt, completion } => {
            let (tokens, begin) = tokenizer.encode_completion(prompt, completion, end)?;
            let begin = if encoding.loss_on == LossOn::All { 0 } else { begin };
            let scored = from(begin, tokens.len());
            (tokens, scored)
        }
        Example::Messages(turns) => conversation::encode(model, turns, encoding.loss_on)?,
    };
    model.check(&tokens)?;
    if let Some(first) = scored.first_mut() {
        *first = false;
    }
    let cut = tokens.len().saturating_sub(encoding.sequence_length);
    let lost = scored[tokens.len() - cut..].iter().filter(|&&scored| scored).count();
    tokens.truncate(encoding.sequence_length);
    scored.truncate(encoding.sequence_length);
    Ok((dpg_models::Example { tokens, scored }, lost))
}
