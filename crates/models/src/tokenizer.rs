//! Text to token ids and back, as transformers makes them of a model folder, and training examples as
//! TRL makes them.
//!
//! Where transformers 4.57 and 5 read a folder differently, this follows version 5 and warns: see
//! [`Tokenizer::warnings`]. `tests/golden/shapes.jsonl` holds what both make of many shapes of
//! tokenizers.
//!
//! One departure: nothing random takes part, so that a text has the same tokens each time. Dropout of
//! merges is switched off, with a warning.

mod pipeline;
mod special;

use std::{ops::Range, path::Path};

use dpg_files::TOKENIZER_BYTES;
use serde_json::Value;
use tokenizers::ModelWrapper;

pub(crate) use special::json;

use crate::{Error, files, patterns::Patterns};
use pipeline::Class;
use special::Special;

const FILE: &str = "tokenizer.json";

/// A tokenizer and the tokens that its model folder gives a role.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    patterns: Patterns,
    vocab: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    /// As a text is ended with it.
    eos_text: Option<String>,
    pad: Option<u32>,
    stop: Vec<u32>,
    /// What the post-processor puts before and after a text.
    around: [Vec<u32>; 2],
    clean_up: bool,
    warnings: Vec<String>,
}

impl Tokenizer {
    /// Reads tokenizer.json and, where they exist, tokenizer_config.json, special_tokens_map.json,
    /// added_tokens.json, generation_config.json and config.json.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Err(Error::MissingFile {
                folder: folder.into(),
                file: FILE.into(),
                hint:
                    "write one with transformers: `AutoTokenizer.from_pretrained(...).save_pretrained(...)`"
                        .into(),
            });
        }
        let mut file = json(folder, FILE)?;
        if !file["model"].is_object() {
            return Err(Error::malformed(&path, "it has no `model`; save it again with transformers"));
        }
        let own = json(folder, "tokenizer_config.json")?;
        let class = Class::of(folder, || files::read_text(&path, TOKENIZER_BYTES))?;
        let special = Special::read(folder, class, &file["added_tokens"])?;
        let saved = [file["normalizer"].clone(), file["pre_tokenizer"].clone()];
        let taken = |value: Option<&mut Value>| value.map_or(Value::Null, Value::take);
        let dropout = taken(file["model"].get_mut("dropout"));
        class.rebuild(&mut file, &own, &special);
        let patterns = Patterns::of(&file, &path)?;
        // settings of the session that saved the file; transformers drops them too
        taken(file.get_mut("truncation"));
        taken(file.get_mut("padding"));
        let mut inner: tokenizers::Tokenizer =
            serde_json::from_value(file).map_err(|error| Error::malformed(&path, error))?;
        for tokens in special.to_add(&inner, class) {
            inner.add_tokens(tokens).map_err(|error| Error::malformed(&path, error))?;
        }
        inner.set_encode_special_tokens(own["split_special_tokens"] == true);

        let generation = json(folder, "generation_config.json")?;
        let config = json(folder, "config.json")?;
        let by_name = |name: &str| inner.token_to_id(special.text(name)?);
        let by_id = |key: &str| {
            let found = ids(&generation[key]);
            if found.is_empty() { ids(&config[key]) } else { found }
        };
        let stop = by_id("eos_token_id");
        let eos = by_name("eos_token").or(stop.first().copied());
        let mut this = Self {
            vocab: inner.get_vocab(true).values().max().map_or(0, |&last| last as usize + 1),
            bos: by_name("bos_token").or(by_id("bos_token_id").first().copied()),
            pad: by_name("pad_token").or(by_id("pad_token_id").first().copied()),
            stop: if stop.is_empty() { eos.into_iter().collect() } else { stop },
            eos,
            eos_text: special.text("eos_token").map(str::to_owned),
            around: around(&inner)?,
            // version 5 leaves the text of BPE alone
            clean_up: own["clean_up_tokenization_spaces"] == true
                && !matches!(inner.get_model(), ModelWrapper::BPE(_)),
            warnings: vec![],
            patterns,
            inner,
        };
        this.warnings = this.warn(folder, &saved, &dropout)?;
        Ok(this)
    }

    /// What to say of a file with these normalizer and pre-tokenizer, and this dropout.
    fn warn(&self, folder: &Path, saved: &[Value; 2], dropout: &Value) -> Result<Vec<String>, Error> {
        let path = folder.join(FILE);
        let mut warnings = vec![];
        if dropout.as_f64().is_some_and(|dropout| dropout > 0.0) {
            warnings.push(format!(
                "`{}`: `model.dropout` = {dropout} is switched off, since with it a text has other tokens each time; \
                 transformers trains with it: set it to null there too",
                path.display()
            ));
        }
        if let Some(class) = pipeline::unknown_class(folder)? {
            warnings.push(format!(
                "`{}` is read as it stands, but transformers reads it as a `{class}`, which may make other tokens: train \
                 with `tokenizer_class` set to `PreTrainedTokenizerFast` in tokenizer_config.json",
                path.display()
            ));
        }
        let ends = [(self.bos, &self.around[0]), (self.eos, &self.around[1])];
        let ends = ends.map(|(token, around)| token.is_some_and(|token| around.contains(&token)));
        let differences = pipeline::differences(folder, saved.each_ref(), &self.inner, ends)?;
        if !differences.is_empty() {
            warnings.push(format!(
                "`{}`: texts become tokens as in transformers 5; version 4 has {}: train with version 5",
                path.display(),
                differences.join(", ")
            ));
        }
        Ok(warnings)
    }

    /// What a user should know of how the folder was read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The ids of a text alone, without the tokens that the tokenizer puts around one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.ids(text, false)
    }

    /// The ids of a text with the tokens that the tokenizer puts around one (Llama's BOS).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.ids(text, true)
    }

    /// The ids of a text to go on from: as [`Self::encode_with_special`], without what the tokenizer puts
    /// after a text, which would end it.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = self.ids(text, true)?;
        let text = ids.len() - self.around[1].len();
        ids.truncate(text);
        Ok(ids)
    }

    /// The ids of a text to train on, as TRL makes them: where `end` is set, the text is ended with the
    /// EOS token unless it has it, before it becomes tokens.
    pub fn encode_text(&self, text: &str, end: bool) -> Result<Vec<u32>, Error> {
        self.example(text.to_owned(), end)
    }

    /// The ids of a prompt and its completion to train on, as TRL makes them, and the place where the
    /// completion begins.
    ///
    /// Both are one text, so that a token may cover the boundary. The completion begins where the ids part
    /// from those of the prompt alone.
    pub fn encode_completion(
        &self,
        prompt: &str,
        completion: &str,
        end: bool,
    ) -> Result<(Vec<u32>, usize), Error> {
        // the completion alone may end with EOS
        let ended = self.eos_text.as_deref().is_some_and(|eos| completion.ends_with(eos));
        let ids = self.example([prompt, completion].concat(), end && !ended)?;
        let begin = common_prefix(&self.ids(prompt, true)?, &ids);
        Ok((ids, begin))
    }

    fn example(&self, mut text: String, end: bool) -> Result<Vec<u32>, Error> {
        match (&self.eos_text, self.eos) {
            (Some(eos), _) if end => {
                if !text.ends_with(eos) {
                    text += eos;
                }
                self.ids(&text, true)
            }
            // a folder that has the id alone; TRL refuses it
            (None, Some(eos)) if end => {
                let mut ids = self.ids(&text, true)?;
                if ids.last() != Some(&eos) {
                    ids.push(eos);
                }
                Ok(ids)
            }
            _ => self.ids(&text, true),
        }
    }

    /// The ids of a text alone, and for each whether it covers a byte of one of the `marked` ranges.
    pub fn encode_marked(&self, text: &str, marked: &[Range<usize>]) -> Result<(Vec<u32>, Vec<bool>), Error> {
        self.patterns.check(text)?;
        let encoding = self.inner.encode(text, false).map_err(failed)?;
        let covers = |&(start, end): &(usize, usize)| {
            marked.iter().any(|range| start < range.end && range.start < end)
        };
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().iter().map(covers).collect()))
    }

    /// The text of `ids`; special tokens such as EOS are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.text(ids, true)
    }

    /// The text of `ids` with special tokens.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String, Error> {
        self.text(ids, false)
    }

    /// The text of one token as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Every id is below this.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }

    /// The ids below `vocab` that no token has: rows of a model that its tokenizer does not use.
    pub fn unused(&self, vocab: usize) -> Vec<u32> {
        (0..vocab as u32).filter(|&id| self.inner.id_to_token(id).is_none()).collect()
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether [`Self::encode_with_special`] begins with [`Self::bos`].
    pub fn adds_bos(&self) -> bool {
        self.bos.is_some() && self.around[0].first() == self.bos.as_ref()
    }

    /// The token that ends a training example: the one of this name, else the first of [`Self::stop`].
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokens that end a generated text: `eos_token_id` of generation_config.json, else of
    /// config.json, else [`Self::eos`].
    pub fn stop(&self) -> &[u32] {
        &self.stop
    }

    /// The token that fills up batches.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        self.patterns.check(text)?;
        Ok(self.inner.encode_fast(text, special).map_err(failed)?.get_ids().to_vec())
    }

    fn text(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        const CLEAN: [[&str; 2]; 10] = [
            [" .", "."],
            [" ?", "?"],
            [" !", "!"],
            [" ,", ","],
            [" ' ", "'"],
            [" n't", "n't"],
            [" 'm", "'m"],
            [" 's", "'s"],
            [" 've", "'ve"],
            [" 're", "'re"],
        ];
        let special = |token: &String| self.inner.get_added_vocabulary().is_special_token(token);
        let written = |&id: &u32| self.token(id).is_some_and(|token| !(skip_special && special(&token)));
        // some decoders count back from the last token, which must be there
        if !ids.iter().any(written) {
            return Ok(String::new());
        }
        let text = self.inner.decode(ids, skip_special).map_err(failed)?;
        let clean = if self.clean_up { CLEAN.as_slice() } else { &[] };
        Ok(clean.iter().fold(text, |text, [from, to]| text.replace(from, to)))
    }
}

/// How many ids two sequences begin with in common.
pub fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

/// What is put before and after a text.
fn around(inner: &tokenizers::Tokenizer) -> Result<[Vec<u32>; 2], Error> {
    let encoding = inner.encode("a", true).map_err(failed)?;
    let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
    let text = added.iter().position(|&added| added == 0).unwrap_or(ids.len());
    let end = added.iter().rposition(|&added| added == 0).map_or(ids.len(), |last| last + 1);
    Ok([ids[..text].to_vec(), ids[end..].to_vec()])
}

/// Names and texts of the special tokens (`bos_token`, `eos_token`, ...) of a model folder.
pub(crate) fn special_tokens(folder: &Path) -> Result<Vec<(String, String)>, Error> {
    let path = folder.join(FILE);
    let class = Class::of(folder, || {
        if path.exists() { files::read_text(&path, TOKENIZER_BYTES) } else { Ok(String::new()) }
    })?;
    let special = Special::read(folder, class, &Value::Null)?;
    Ok(special.named.into_iter().map(|(name, token)| (name, token.content)).collect())
}

/// One id or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}
