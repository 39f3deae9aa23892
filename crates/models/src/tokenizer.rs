//! Text to token ids and back, as the tokenizer.json of a model folder says.

use std::{ops::Range, path::Path};

use dpg_files::{JSON_BYTES, TOKENIZER_BYTES};
use serde_json::Value;

use crate::{Error, patterns::Patterns};

/// A tokenizer and the tokens that its model folder gives a role.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    patterns: Patterns,
    vocab: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    stop: Vec<u32>,
}

impl Tokenizer {
    /// Reads tokenizer.json and, where they exist, tokenizer_config.json, special_tokens_map.json,
    /// generation_config.json and config.json.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        const FILE: &str = "tokenizer.json";
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
        let bytes = dpg_files::read(&path, TOKENIZER_BYTES).map_err(Error::io(&path))?;
        let patterns = Patterns::of(&bytes, &path)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| Error::malformed(&path, error))?;
        // settings of the session that saved the file; transformers drops them too
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::malformed(&path, error))?;

        let generation = json(folder, "generation_config.json")?;
        let config = json(folder, "config.json")?;
        let named = special_tokens(folder)?;
        let by_name = |name: &str| {
            let (_, token) = named.iter().find(|(known, _)| known == name)?;
            inner.token_to_id(token)
        };
        let by_id = |key: &str| {
            let found = ids(&generation[key]);
            if found.is_empty() { ids(&config[key]) } else { found }
        };
        let stop = by_id("eos_token_id");
        let eos = by_name("eos_token").or(stop.first().copied());
        Ok(Self {
            vocab: inner.get_vocab(true).values().max().map_or(0, |&last| last as usize + 1),
            bos: by_name("bos_token").or(by_id("bos_token_id").first().copied()),
            pad: by_name("pad_token").or(by_id("pad_token_id").first().copied()),
            stop: if stop.is_empty() { eos.into_iter().collect() } else { stop },
            eos,
            patterns,
            inner,
        })
    }

    /// The ids of a text alone, without the tokens that the tokenizer puts around one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encoding(text, false).map(|encoding| encoding.get_ids().to_vec())
    }

    /// The ids of a text with the tokens that the tokenizer puts around one (Llama's BOS), as
    /// transformers encodes a training example.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encoding(text, true).map(|encoding| encoding.get_ids().to_vec())
    }

    /// The ids of a text alone, and for each whether it covers a byte of one of the `marked` ranges.
    pub fn encode_marked(&self, text: &str, marked: &[Range<usize>]) -> Result<(Vec<u32>, Vec<bool>), Error> {
        let encoding = self.encoding(text, false)?;
        let covers = |&(start, end): &(usize, usize)| {
            marked.iter().any(|range| start < range.end && range.start < end)
        };
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().iter().map(covers).collect()))
    }

    /// The text of `ids`; special tokens such as EOS are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, true).map_err(failed)
    }

    /// The text of `ids` with special tokens.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, false).map_err(failed)
    }

    /// The text of one token as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Every id is below this.
    pub fn vocab_size(&self) -> usize {
        self.vocab
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether [`Self::encode_with_special`] begins with [`Self::bos`].
    pub fn adds_bos(&self) -> Result<bool, Error> {
        Ok(self.bos.is_some() && self.encode_with_special("")?.first() == self.bos.as_ref())
    }

    /// The token that ends a training example: `eos_token` of tokenizer_config.json, else the first
    /// of [`Self::stop`].
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

    fn encoding(&self, text: &str, special: bool) -> Result<tokenizers::Encoding, Error> {
        self.patterns.check(text)?;
        self.inner.encode(text, special).map_err(failed)
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

/// Names and texts of the special tokens (`bos_token`, `eos_token`, ...) of a model folder.
pub(crate) fn special_tokens(folder: &Path) -> Result<Vec<(String, String)>, Error> {
    let mut found: Vec<(String, String)> = Vec::new();
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        let Value::Object(map) = json(folder, file)? else { continue };
        for (name, value) in map {
            // an added token is written as an object
            let text = value.get("content").unwrap_or(&value).as_str();
            if let Some(text) = text
                && name.ends_with("_token")
                && !found.iter().any(|(known, _)| *known == name)
            {
                found.push((name, text.to_owned()));
            }
        }
    }
    Ok(found)
}

/// A JSON file of a model folder; `Null` if there is none.
pub(crate) fn json(folder: &Path, file: &str) -> Result<Value, Error> {
    let path = folder.join(file);
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = dpg_files::read_to_string(&path, JSON_BYTES).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map_err(|error| Error::malformed(&path, error))
}

/// One id or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}
