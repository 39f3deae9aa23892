//! Conversations to tokens, as TRL's `SFTTrainer` does it.
//!
//! The template writes the whole of one, and the text is tokenised without the tokens that the
//! tokenizer puts around a text. With `loss_on = "completion"` turns are scored as TRL scores them
//! under `assistant_only_loss`, and a completion of turns as under `completion_only_loss`: from
//! where its tokens differ from those of the prompt with the assistant's turn begun.

use dpg_dataset::Conversation;
use dpg_models::Model;
use dpg_spec::LossOn;

use crate::Error;

/// The tokens of a conversation and whether each is scored.
pub(crate) fn encode(
    model: &Model,
    conversation: &Conversation,
    loss_on: LossOn,
) -> Result<(Vec<u32>, Vec<bool>), Error> {
    let (template, tokenizer) = (model.chat()?, &model.tokenizer);
    let all = dpg_models::Conversation {
        turns: &conversation.turns,
        tools: conversation.tools.as_deref(),
        variables: Some(&conversation.variables),
    };
    let whole = || Ok::<_, Error>(tokenizer.encode(&template.render(&all, false)?)?);
    match (loss_on, conversation.prompt) {
        (LossOn::All, _) => {
            let tokens = whole()?;
            let scored = vec![true; tokens.len()];
            Ok((tokens, scored))
        }
        (LossOn::Completion, Some(prompt)) => {
            let tokens = whole()?;
            let asked = dpg_models::Conversation { turns: &conversation.turns[..prompt], ..all };
            let asked = tokenizer.encode(&template.render(&asked, true)?)?;
            let common = asked.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
            let scored = (0..tokens.len()).map(|token| token >= common).collect();
            Ok((tokens, scored))
        }
        (LossOn::Completion, None) => {
            let rendered = template.render_turns(&all)?;
            Ok(tokenizer.encode_marked(&rendered.text, &rendered.assistant)?)
        }
    }
}
