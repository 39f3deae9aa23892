//! Byte-level BPE tokenizers.

use anyhow::{Result, anyhow};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// The one special token: it begins and ends a text.
pub(crate) const EOS: &str = "<|end|>";
/// Its id.
pub(crate) const EOS_ID: u32 = 0;

/// A tokenizer.json of `size` tokens trained on `texts`. A text is encoded after [`EOS`].
pub(crate) fn train_tokenizer(texts: &[String], size: usize) -> Result<String> {
    let failed = |error| anyhow!("tokenizer: {error}");
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(size)
        .special_tokens(vec![AddedToken::from(EOS, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build()
        .into();
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).map_err(failed)?;
    let template = tokenizers::processors::template::TemplateProcessing::builder()
        .try_single(format!("{EOS} $A"))
        .map_err(|error| anyhow!("tokenizer: {error}"))?
        .special_tokens(vec![(EOS, EOS_ID)])
        .build()
        .map_err(|error| anyhow!("tokenizer: {error}"))?;
    tokenizer.with_post_processor(Some(template));
    tokenizer.to_string(true).map_err(failed)
}
