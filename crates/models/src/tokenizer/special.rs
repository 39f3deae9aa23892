//! The tokens that the files beside tokenizer.json add to it, as transformers 5 reads them.

use std::{collections::BTreeMap, path::Path};

use dpg_files::TOKENIZER_BYTES;
use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use crate::{Error, files};

use super::pipeline::Class;

const CONFIG: &str = "tokenizer_config.json";
/// The names that every tokenizer of transformers has, in its order.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The names that CodeLlama's has besides.
const INFILLING: [&str; 5] = ["prefix_token", "middle_token", "suffix_token", "eot_token", "fill_token"];

/// What a folder says of its special and added tokens.
#[derive(Debug, Default)]
pub(super) struct Special {
    /// Names and tokens, in the order in which they are added.
    pub(super) named: Vec<(String, AddedToken)>,
    /// Special tokens without a name.
    pub(super) extra: Vec<AddedToken>,
    /// Tokens by the id that they had when the folder was saved.
    pub(super) by_id: BTreeMap<u32, AddedToken>,
}

impl Special {
    /// Reads tokenizer_config.json, and if that has no `added_tokens_decoder`, special_tokens_map.json,
    /// added_tokens.json and `in_file`, the `added_tokens` of tokenizer.json.
    pub(super) fn read(folder: &Path, class: Class, in_file: &Value) -> Result<Self, Error> {
        let mut config = object(folder, CONFIG)?;
        let mut this = Self::default();
        let old_name = config.remove("additional_special_tokens").filter(|_| !filled(&config));
        if let Some(extra) = old_name {
            config.insert(EXTRA.into(), extra);
        }
        if let Some(Value::Object(by_id)) = config.get("added_tokens_decoder") {
            for (id, token) in by_id {
                if let (Ok(id), Some(token)) = (id.parse(), token_of(token)) {
                    this.by_id.insert(id, token);
                }
            }
        } else {
            let map = object(folder, "special_tokens_map.json")?;
            let named = map.into_iter().filter(|(name, _)| name.ends_with("_token") || name == EXTRA);
            config.extend(named);
            this.read_older(folder, &config, in_file)?;
        }
        this.extra = match config.remove(EXTRA) {
            Some(Value::Array(extra)) => extra.iter().filter_map(token_of).collect(),
            Some(Value::Object(named)) => {
                config.extend(named);
                vec![]
            }
            _ => vec![],
        };
        this.name(class, &config);
        Ok(this)
    }

    /// The files of folders that were saved before `added_tokens_decoder` was there.
    fn read_older(
        &mut self,
        folder: &Path,
        config: &Map<String, Value>,
        in_file: &Value,
    ) -> Result<(), Error> {
        let extra = config.get(EXTRA).and_then(Value::as_array).into_iter().flatten();
        let known: Vec<AddedToken> = config.values().chain(extra).filter_map(token_of).collect();
        for (content, id) in object(folder, "added_tokens.json")? {
            let special = known.iter().any(|token| token.content == content);
            if let Some(id) = id_of(&id) {
                self.by_id.insert(id, AddedToken::from(content, special));
            }
        }
        for token in in_file.as_array().into_iter().flatten() {
            if let (Some(id), Some(token)) = (id_of(&token["id"]), token_of(token)) {
                self.by_id.insert(id, token);
            }
        }
        Ok(())
    }

    /// Gives the tokens of `config` their names, and the class's own to names that it does not mention.
    fn name(&mut self, class: Class, config: &Map<String, Value>) {
        let others = config.keys().map(String::as_str).filter(|name| !NAMES.contains(name));
        let own = INFILLING.into_iter().filter(|name| !config.contains_key(*name));
        for name in NAMES.into_iter().chain(others).chain(own) {
            let token = match config.get(name) {
                // whatever else a name that is not of the seven holds is not a token (`add_bos_token`)
                Some(value) if name.ends_with("_token") => token_of(value),
                Some(_) => None,
                None => class.default_token(name).map(|text| AddedToken::from(text, true)),
            };
            if let Some(token) = token {
                let saved = self.by_id.values().find(|saved| saved.content == token.content);
                self.named.push((name.to_owned(), saved.cloned().unwrap_or(token)));
            }
        }
    }

    /// The tokens to add to a tokenizer, one list after the other.
    pub(super) fn to_add(&self, tokenizer: &Tokenizer, class: Class) -> [Vec<AddedToken>; 2] {
        let known: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
        let special = || self.named.iter().map(|(_, token)| token).chain(&self.extra);
        let mut tokens: Vec<AddedToken> =
            self.by_id.values().filter(|token| !known.contains(token)).cloned().collect();
        for token in special() {
            if !known.iter().chain(&tokens).any(|known| known.content == token.content) {
                tokens.push(token.clone());
            }
        }
        for token in &mut tokens {
            token.special |= self.named.iter().any(|(_, named)| named.content == token.content);
        }
        let plain = |token: &AddedToken| AddedToken::from(token.content.clone(), true);
        [tokens, if class == Class::Qwen2 { special().map(plain).collect() } else { vec![] }]
    }

    /// The text of the token with this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, token)| token.content.as_str())
    }
}

const EXTRA: &str = "extra_special_tokens";

fn filled(config: &Map<String, Value>) -> bool {
    match config.get(EXTRA) {
        Some(Value::Array(tokens)) => !tokens.is_empty(),
        Some(Value::Object(tokens)) => !tokens.is_empty(),
        _ => false,
    }
}

/// A token as a text or as an object with its text and flags.
fn token_of(value: &Value) -> Option<AddedToken> {
    if let Some(text) = value.as_str() {
        return Some(AddedToken::from(text, true));
    }
    let text = value.get("content")?.as_str()?;
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    // a special token's object seldom says that it is one
    let special = flag("special").unwrap_or(true);
    Some(
        AddedToken::from(text, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

fn id_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// A JSON file of a model folder; `Null` if there is none.
pub(crate) fn json(folder: &Path, file: &str) -> Result<Value, Error> {
    let path = folder.join(file);
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&files::read_text(&path, TOKENIZER_BYTES)?)
        .map_err(|error| Error::malformed(&path, error))
}

fn object(folder: &Path, file: &str) -> Result<Map<String, Value>, Error> {
    match json(folder, file)? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}
