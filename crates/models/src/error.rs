//! What can go wrong with a model.

#![allow(missing_docs, reason = "a variant's fields are what its message names")]

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot access `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file of a model folder does not parse or contradicts another.
    #[error("`{}` is not usable: {reason}", path.display())]
    Malformed {
        path: PathBuf,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A file that a model folder must have is absent.
    #[error("model folder `{}` has no `{file}`: {hint}", folder.display())]
    MissingFile {
        folder: PathBuf,
        /// The file's name.
        file: String,
        /// What to do.
        hint: String,
    },
    /// The model is of a kind that is not implemented.
    #[error("`{}`: `{field}` = `{found}` is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The config file.
        path: PathBuf,
        field: String,
        found: String,
        /// What would be accepted.
        supported: String,
    },
    /// A tensor is absent from the weight files.
    #[error("`{}` has no tensor `{name}`, which its config.json implies: {cause}", folder.display())]
    MissingTensor {
        /// The model folder.
        folder: PathBuf,
        name: String,
        /// Why, as far as the names of the others tell, and what to do.
        cause: String,
    },
    /// A tensor has another shape than the config implies.
    #[error("tensor `{name}` in `{}` has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The weight file.
        path: PathBuf,
        name: String,
        /// Shape by config.json.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A parameter was asked for that the model does not have.
    #[error("the model has no parameter `{name}`; it has {}", abbreviated(known))]
    UnknownParameter {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// LoRA was asked to adapt a layer that the model does not have.
    #[error(
        "`lora.targets`: no linear layer's name ends in `{name}`; those of this model end in {}",
        abbreviated(known)
    )]
    NoLinear {
        /// The end of a name asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A text could not be turned into tokens or back.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A text has a token that the tokenizer knows and the model does not.
    #[error(
        "token `{token}` has id {id}, but the model in `{}` has {model} tokens and its tokenizer {tokenizer}: leave the \
         token out of data and templates, or give the model rows for it with transformers: \
         `model.resize_token_embeddings({tokenizer})`",
        folder.display()
    )]
    UnknownToken {
        /// The model folder.
        folder: PathBuf,
        /// The token as the vocabulary writes it.
        token: String,
        id: u32,
        /// Tokens that the tokenizer has.
        tokenizer: usize,
        /// Tokens that the model has.
        model: usize,
    },
    /// A chat template failed.
    #[error("chat template of `{}`", path.display())]
    ChatTemplate {
        /// The file it came from.
        path: PathBuf,
        source: minijinja::Error,
    },
    /// A chat template writes an assistant's turn otherwise once more turns follow.
    #[error(
        "chat template of `{}`: turn {turn} is not where it was when rendered alone, so the assistant's tokens cannot be \
         told apart; give a prompt and a completion of turns, mark what the assistant writes in the template by \
         `{{% generation %}}` and `{{% endgeneration %}}`, or, in training, set `loss_on = \"all\"`",
        path.display()
    )]
    ChatTurn {
        /// The file it came from.
        path: PathBuf,
        /// The turn, from 1.
        turn: usize,
    },
    /// A chat template does something with what a generation block wrote.
    #[error(
        "chat template of `{}`: it cuts or measures the text of a `{{% generation %}}` block, so the assistant's tokens \
         cannot be told apart; write the block out where it stands or, in training, set `loss_on = \"all\"`",
        path.display()
    )]
    ChatGeneration {
        /// The file it came from.
        path: PathBuf,
    },
    /// A sequence does not fit the model's context.
    #[error("{what} has {length} tokens, but the model's context is {limit}")]
    TooLong {
        /// Which sequence.
        what: String,
        /// Its length in tokens.
        length: usize,
        /// The context length.
        limit: usize,
    },
    /// A token that the tokenizer knows and the model does not.
    #[error(
        "{what} has token {token}, but the model has an embedding of {vocab} tokens, 0 to {}: its tokenizer knows more; \
         resize it with transformers' `resize_token_embeddings`, or leave the token out of the texts",
        vocab - 1
    )]
    NoEmbedding {
        /// Which sequence.
        what: String,
        token: u32,
        /// Tokens of the model.
        vocab: usize,
    },
    /// A device's name does not name one.
    #[error("device `{text}`: {reason}")]
    Device {
        /// What was given.
        text: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A precision that a device does not have.
    #[error(
        "`precision = \"{name}\"` gains nothing on {title}, which would imitate it: leave it out{instead}"
    )]
    Precision {
        name: &'static str,
        /// The device, in words.
        title: &'static str,
        /// What else to do, if anything has it.
        instead: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The sampler and the training forward disagree about log-probabilities.
    #[error(
        "sampled log-probabilities differ from the training forward by {difference:e}, over the tolerance {tolerance:e}"
    )]
    LogprobMismatch {
        /// Largest absolute difference.
        difference: f64,
        tolerance: f64,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn malformed(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Malformed { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

fn abbreviated(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
