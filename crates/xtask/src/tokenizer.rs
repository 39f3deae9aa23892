//! Byte-level tokenizers: byte pairs learnt from texts, and single characters.

use anyhow::{Result, anyhow};
use serde_json::{Map, Value, json};
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

/// What a tokenizer of characters knows, the most frequent in English first.
pub(crate) const CHARACTERS: &str =
    " etaoinshrdlucmfwypvbgkjqxz0123456789-.,':!\"#$%&()*+/;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`{|}~";

/// A tokenizer.json whose tokens are [`EOS`] and [`CHARACTERS`].
pub(crate) fn characters() -> String {
    let mut vocabulary = Map::from_iter([(EOS.to_owned(), json!(EOS_ID))]);
    for (id, character) in CHARACTERS.chars().enumerate() {
        // byte-level tokenizers write a space so
        let token = if character == ' ' { 'Ġ' } else { character };
        vocabulary.insert(token.to_string(), json!(EOS_ID as usize + 1 + id));
    }
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    };
    let tokenizer: Value = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(EOS_ID, EOS)],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": EOS, "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": { EOS: { "id": EOS, "ids": [EOS_ID], "tokens": [EOS] } },
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": [],
        },
    });
    tokenizer.to_string()
}
