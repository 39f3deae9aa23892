//! Which class of transformers 5 reads a folder's tokenizer, and what that class puts in place of what
//! tokenizer.json says.
//!
//! A class of a model family takes the vocabulary, the merges and the post-processor from
//! tokenizer.json, and brings its own normalizer, pre-tokenizer and decoder. The general class takes all
//! from the file. Neither looks at `add_bos_token` and `add_eos_token` of tokenizer_config.json.
//! Transformers 4.57 takes all but the post-processor from the file, and for some classes makes the
//! post-processor of those two keys: see [`differences`].

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::Error;

use super::special::{Special, json as read};

/// The classes that bring their own pipeline; any other reads the file as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    General,
    CodeLlama,
    Gemma,
    Gpt2,
    GptNeoX,
    Llama,
    Qwen2,
}

/// The expression that splits a text for `Qwen2Tokenizer`.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Class {
    /// The class for a folder; `tokenizer` gives the text of its tokenizer.json.
    pub(super) fn of(
        folder: &Path,
        tokenizer: impl FnOnce() -> Result<String, Error>,
    ) -> Result<Self, Error> {
        let config = read(folder, "config.json")?;
        let own = match config["model_type"].as_str() {
            Some("gpt2") => Some(Self::Gpt2),
            Some("qwen2" | "qwen3") => Some(Self::Qwen2),
            _ => None,
        };
        let Some(name) = class_name(folder, &config)? else {
            return Ok(own.unwrap_or(Self::General));
        };
        // many folders of this type name a class that is not theirs
        if config["model_type"] == "qwen2" {
            return Ok(Self::Qwen2);
        }
        Ok(match name.as_str() {
            // said of Llama 3, whose tokenizer is another one
            "LlamaTokenizer" if tokenizer()?.contains("\"ByteLevel\"") => Self::General,
            "LlamaTokenizer" => Self::Llama,
            "CodeLlamaTokenizer" => Self::CodeLlama,
            "GemmaTokenizer" => Self::Gemma,
            "CodeGenTokenizer" | "GPT2Tokenizer" => Self::Gpt2,
            "GPTNeoXTokenizer" => Self::GptNeoX,
            "Qwen2Tokenizer" => Self::Qwen2,
            _ => Self::General,
        })
    }

    /// The token that this class gives a name which tokenizer_config.json leaves out.
    pub(super) fn default_token(self, name: &str) -> Option<&'static str> {
        let [unk, bos, eos, pad, mask] = match self {
            Self::General => return None,
            Self::Gemma => ["<unk>", "<bos>", "<eos>", "<pad>", "<mask>"],
            Self::Gpt2 => ["<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "", ""],
            Self::GptNeoX => ["<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "<|padding|>", ""],
            Self::CodeLlama | Self::Llama => ["<unk>", "<s>", "</s>", "", ""],
            Self::Qwen2 => ["<|endoftext|>", "", "<|endoftext|>", "<|endoftext|>", ""],
        };
        let token = match name {
            "unk_token" => unk,
            "bos_token" => bos,
            "eos_token" => eos,
            "pad_token" => pad,
            "mask_token" => mask,
            _ if self != Self::CodeLlama => "",
            "prefix_token" => "▁<PRE>",
            "middle_token" => "▁<MID>",
            "suffix_token" => "▁<SUF>",
            "eot_token" => "▁<EOT>",
            "fill_token" => "<FILL_ME>",
            _ => "",
        };
        Some(token).filter(|token| !token.is_empty())
    }

    /// Puts the class's own pipeline in the place of the one in `file`, a tokenizer.json, of which the
    /// added tokens go too. `config` is tokenizer_config.json.
    pub(super) fn rebuild(self, file: &mut Value, config: &Value, special: &Special) {
        // a file without its type is of the oldest kind
        if self == Self::General || file["model"]["type"].as_str().is_some_and(|kind| kind != "BPE") {
            return;
        }
        let prefix = config["add_prefix_space"].as_bool();
        let byte_level = |add_prefix_space: bool, use_regex: bool| {
            let trim = true;
            json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim, "use_regex": use_regex})
        };
        let (normalizer, pre_tokenizer) = match self {
            Self::General => return,
            Self::Gemma => (
                json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
            ),
            Self::Gpt2 => (Value::Null, byte_level(prefix == Some(true), true)),
            Self::GptNeoX => (json!({"type": "NFC"}), byte_level(prefix == Some(true), true)),
            Self::CodeLlama | Self::Llama => {
                let scheme = match (prefix, config["legacy"].as_bool()) {
                    (Some(false), _) => "never",
                    (_, Some(true)) if self == Self::Llama => "always",
                    _ => "first",
                };
                let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
                (Value::Null, metaspace)
            }
            Self::Qwen2 => {
                let split = json!({"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false});
                let parts = [split, byte_level(prefix == Some(true), false)];
                (json!({"type": "NFC"}), json!({"type": "Sequence", "pretokenizers": parts}))
            }
        };
        let pieces = matches!(self, Self::CodeLlama | Self::Gemma | Self::Llama);
        let decoder = if pieces {
            let mut parts = vec![
                json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
                json!({"type": "ByteFallback"}),
                json!({"type": "Fuse"}),
            ];
            if self == Self::CodeLlama || self == Self::Llama && prefix != Some(false) {
                parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            json!({"type": "Sequence", "decoders": parts})
        } else {
            byte_level(true, true)
        };
        file["normalizer"] = normalizer;
        file["pre_tokenizer"] = pre_tokenizer;
        file["decoder"] = decoder;
        file["added_tokens"] = json!([]);
        // these two make it anew of two keys that they were not given
        match (self, special.text("bos_token")) {
            (Self::GptNeoX, _) => file["post_processor"] = Value::Null,
            (Self::CodeLlama, Some(bos)) => {
                let part = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
                file["post_processor"] = json!({
                    "type": "TemplateProcessing",
                    "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, part("A")],
                    "pair": [part("A"), part("B")],
                    "special_tokens": {bos: {"id": bos, "ids": [file["model"]["vocab"][bos]], "tokens": [bos]}},
                });
            }
            _ => {}
        }
        let model = &mut file["model"];
        model["dropout"] = Value::Null;
        let has_unk = matches!(self, Self::CodeLlama | Self::Gemma);
        model["unk_token"] = special.text("unk_token").filter(|_| has_unk).into();
        model["fuse_unk"] = pieces.into();
        model["byte_fallback"] = pieces.into();
        model["ignore_merges"] = false.into();
        let affix = if pieces { Value::Null } else { "".into() };
        model["continuing_subword_prefix"] = affix.clone();
        model["end_of_word_suffix"] = affix;
    }
}

/// Classes of other families of models that bring a pipeline of their own, which is not known here.
const OTHERS: [&str; 20] = [
    "AlbertTokenizer",
    "BertTokenizer",
    "BigBirdTokenizer",
    "CLIPTokenizer",
    "CamembertTokenizer",
    "CohereTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "GPTSw3Tokenizer",
    "HerbertTokenizer",
    "MBartTokenizer",
    "NllbTokenizer",
    "OpenAIGPTTokenizer",
    "PegasusTokenizer",
    "Qwen3_5Tokenizer",
    "RobertaTokenizer",
    "T5Tokenizer",
    "XGLMTokenizer",
    "XLMRobertaTokenizer",
    "XLNetTokenizer",
];

/// The class of the folder, if transformers gives it a pipeline that is not known here.
pub(super) fn unknown_class(folder: &Path) -> Result<Option<String>, Error> {
    let config = read(folder, "config.json")?;
    let name = class_name(folder, &config)?.filter(|name| OTHERS.contains(&name.as_str()));
    // whose class is its own whatever the folder says
    Ok(name.filter(|_| config["model_type"] != "qwen2"))
}

/// The class that a folder names, without `Fast`.
fn class_name(folder: &Path, config: &Value) -> Result<Option<String>, Error> {
    let own = read(folder, "tokenizer_config.json")?;
    let name = own["tokenizer_class"].as_str().or(config["tokenizer_class"].as_str());
    Ok(name.map(|name| name.strip_suffix("Fast").unwrap_or(name).to_owned()))
}

/// How transformers 4.57 reads the folder otherwise, in words: `file` holds the normalizer and the
/// pre-tokenizer of its tokenizer.json, `ends` whether BOS and EOS are put around a text here.
pub(super) fn differences(
    folder: &Path,
    file: [&Value; 2],
    here: &Tokenizer,
    ends: [bool; 2],
) -> Result<Vec<String>, Error> {
    let (config, own) = (read(folder, "config.json")?, read(folder, "tokenizer_config.json")?);
    let mut found = vec![];
    if written::<NormalizerWrapper>(file[0]) != json!(here.get_normalizer()) {
        found.push("another normalizer".to_owned());
    }
    let mut theirs = written::<PreTokenizerWrapper>(file[1]);
    // version 4 sets the one of `ByteLevel` to the value in tokenizer_config.json, false where it has none
    if let Some(prefix) = theirs.get_mut("add_prefix_space") {
        *prefix = own["add_prefix_space"].as_bool().unwrap_or(false).into();
    }
    if theirs != json!(here.get_pre_tokenizer()) {
        found.push("another pre-tokenizer".to_owned());
    }
    let key = |key: &str, default: bool| own[key].as_bool().unwrap_or(default);
    let name = class_name(folder, &config)?;
    let theirs = match (name.as_deref(), config["model_type"].as_str()) {
        (Some("LlamaTokenizer" | "CodeLlamaTokenizer" | "GemmaTokenizer" | "CohereTokenizer"), _)
        | (None, Some("llama")) => [key("add_bos_token", true), key("add_eos_token", false)],
        (Some("GPTNeoXTokenizer"), _) => [key("add_bos_token", false), key("add_eos_token", false)],
        _ => ends,
    };
    for ((theirs, ours), token) in theirs.into_iter().zip(ends).zip(["BOS", "EOS"]) {
        if theirs != ours {
            found.push(format!("{} added {token}", if theirs { "an" } else { "no" }));
        }
    }
    Ok(found)
}

/// A part of a pipeline with the keys that the file leaves out.
fn written<T: DeserializeOwned + Serialize>(part: &Value) -> Value {
    let parsed: Result<Option<T>, _> = serde_json::from_value(part.clone());
    parsed.and_then(serde_json::to_value).unwrap_or_else(|_| part.clone())
}
