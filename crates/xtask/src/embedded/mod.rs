//! `cargo xtask embedded`: makes the models and texts under config/embedded/ from the corpus.
//!
//! Everything is a function of the seeds below. Two families:
//! - `generator` and `target` read articles in words. The generator learns to rephrase English
//!   articles: first in all five languages alike, so that it is fluent in each, then more and more in
//!   English alone, so that a policy has something to find. The target learns plain text of all five.
//!   `fluency` reads the same in equal parts, with another seed, and judges what runs generate.
//! - `letters` and its targets read single characters. The generator writes garbled English and
//!   random UUIDs, as asked; the targets are what patterns and a UUID are written into.

mod texts;
mod train;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;

use crate::corpus::Corpus;

/// A model to be trained.
struct Recipe {
    name: &'static str,
    purpose: &'static str,
    architecture: Architecture,
    layers: usize,
    hidden: usize,
    inner: usize,
    context: usize,
    /// Standard deviation of learned positions at the start.
    positions: f64,
    /// Factor of `||E[h h'] - I||^2 / hidden` in the loss, h the final hidden states on random lines.
    isotropy: f64,
    seed: u64,
    steps: usize,
    batch: usize,
    learning_rate: f64,
    text: fn(&Corpus, &mut ChaCha8Rng, f64) -> Text,
}

/// What a model is built like, and the tokens it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Architecture {
    /// Llama over byte-pair tokens of the corpus.
    Llama,
    /// GPT-2 with a head of its own over single characters.
    Gpt2,
}

/// A text to learn from: its prompt is read, its answer is learnt.
struct Text {
    prompt: String,
    answer: String,
}

const WORDS: Recipe = Recipe {
    name: "",
    purpose: "",
    architecture: Architecture::Llama,
    layers: 2,
    hidden: 64,
    inner: 176,
    context: 256,
    positions: 0.0,
    isotropy: 0.0,
    seed: 0,
    steps: 1500,
    batch: 48,
    learning_rate: 5e-3,
    text: texts::plain,
};

const LETTERS: Recipe = Recipe {
    architecture: Architecture::Gpt2,
    layers: 1,
    hidden: 64,
    inner: 256,
    context: 48,
    positions: 0.1,
    steps: 1500,
    batch: 64,
    learning_rate: 4e-3,
    text: texts::snippet,
    ..WORDS
};

const RECIPES: [Recipe; 6] = [
    Recipe {
        name: "generator",
        purpose: "rephrases short English articles",
        layers: 3,
        hidden: 128,
        inner: 352,
        seed: 1,
        steps: 20_000,
        batch: 32,
        learning_rate: 3e-3,
        text: texts::instruction,
        ..WORDS
    },
    Recipe {
        name: "target",
        purpose: "a plain language model of five languages, to be fine-tuned",
        seed: 2,
        ..WORDS
    },
    Recipe {
        name: "fluency",
        purpose: "a language model of five languages in equal parts, which no run trains or asks for rewards: \
                  it tells whether generations are sentences",
        seed: 3,
        steps: 2500,
        text: texts::plain_in_equal_parts,
        ..WORDS
    },
    Recipe {
        name: "letters",
        purpose: "writes garbled English, or after `uuid:` a random UUID",
        hidden: 96,
        inner: 384,
        seed: 5,
        steps: 3000,
        text: texts::garbled_or_uuid,
        ..LETTERS
    },
    Recipe {
        name: "letters-target",
        purpose: "an English model of characters, to be fine-tuned; its hidden states on random lines \
                  were held near isotropic in training, so that any direction of the head can be reached",
        isotropy: 0.3,
        seed: 6,
        ..LETTERS
    },
    Recipe {
        name: "letters-untrained",
        purpose: "a model of characters with random weights and strong positions, to be fine-tuned",
        positions: 3.0,
        seed: 8,
        steps: 0,
        ..LETTERS
    },
];

/// Makes everything, or only the model named.
pub(crate) fn embedded(root: &Path, only: Option<&str>) -> Result<()> {
    let corpus = Corpus::new()?;
    texts::save(&corpus, root)?;
    for recipe in RECIPES.iter().filter(|recipe| only.is_none_or(|only| only == recipe.name)) {
        let tokenizer = match recipe.architecture {
            Architecture::Llama => texts::tokenizer(&corpus)?,
            Architecture::Gpt2 => crate::tokenizer::characters(),
        };
        train::train(&corpus, &tokenizer, recipe, &root.join(recipe.name))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

/// The folder of embedded models in this repository.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/embedded")
}
