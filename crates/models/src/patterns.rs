//! The patterns of a tokenizer.json, tried out before the tokenizer uses them.
//!
//! A pattern may backtrack for longer than anybody waits. tokenizers gives up after a million steps back,
//! and then takes the rest of the text as one piece: the tokens are others, and nothing is said. Here the
//! same pattern runs on the text first, with fewer steps, and giving up is an error.

use std::{path::Path, sync::Arc};

use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::Error;

/// Steps back in one match. A pattern that splits words takes as many as there are spaces in a row.
const STEPS: usize = 100_000;
/// Most bytes of a text that is tokenized in one piece.
const TEXT_BYTES: usize = 16 << 20;

/// The patterns of a tokenizer.
#[derive(Clone, Debug)]
pub(crate) struct Patterns(Arc<[Regex]>);

impl Patterns {
    /// Those of a tokenizer.json at `path`.
    pub(crate) fn of(file: &Value, path: &Path) -> Result<Self, Error> {
        let mut found = vec![];
        collect(&file["normalizer"], &mut found);
        collect(&file["pre_tokenizer"], &mut found);
        let compile = |pattern: &str| {
            let compiled = RegexBuilder::new(pattern).backtrack_limit(STEPS).build();
            compiled.map_err(|error| Error::malformed(path, format!("pattern `{pattern}`: {error}")))
        };
        Ok(Self(found.into_iter().map(compile).collect::<Result<_, _>>()?))
    }

    /// Refuses a text on which a pattern backtracks too much, or that is too long.
    pub(crate) fn check(&self, text: &str) -> Result<(), Error> {
        if text.len() > TEXT_BYTES {
            let length = text.len();
            return Err(Error::Tokenizer(format!(
                "a text has {length} bytes, more than the limit of {TEXT_BYTES}"
            )));
        }
        for pattern in self.0.iter() {
            if let Some(error) = pattern.find_iter(text).find_map(Result::err) {
                let begin: String = text.chars().take(60).collect();
                return Err(Error::Tokenizer(format!("pattern `{pattern}` on the text `{begin}`: {error}")));
            }
        }
        Ok(())
    }
}

/// Every `{"Regex": pattern}` inside a value.
fn collect<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("Regex").and_then(Value::as_str));
            map.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
