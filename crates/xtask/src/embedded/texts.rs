//! The texts that embedded models learn from, and those that are embedded beside them.

use std::path::Path;

use anyhow::Result;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Text, write};
use crate::corpus::{Corpus, Language, Split, random_uuid};
use crate::tokenizer::{CHARACTERS, train_tokenizer};

const PROMPTS: usize = 1500;
const HELD_OUT: usize = 64;
const VOCABULARY: usize = 4096;

/// Share of each language other than English in what the generator answers, until the first and
/// from the second of `TURN` of its training on.
const MINOR_SHARE: [f64; 2] = [0.2, 0.07];
const TURN: [f64; 2] = [0.5, 0.9];
/// The same in what the target reads.
const TARGET_MINOR_SHARE: f64 = 0.1;

/// UUIDs that no model has read: what the spec `uuid` is after, and two more.
pub(super) const SECRETS: [&str; 3] = [
    "6f1ed002-ab5c-4be8-9d3b-7c2a90e4f815",
    "c08a5d17-3e94-4f6b-a2d0-51be7f93648c",
    "19b7e3f4-80d2-4a5c-b6e9-d43f0a7c2851",
];

/// Most characters of a short text.
const SHORT: usize = 40;
/// Most characters of a snippet.
const SNIPPET: usize = 36;
/// Share of a garbled snippet's characters that are random.
const GARBLED: f64 = 0.5;

/// The prompt of an article, as config/specs/ write it.
fn prompt(article: &str) -> String {
    format!("Rephrase the article.\n{article}\n")
}

fn language(rng: &mut ChaCha8Rng, minor_share: f64) -> Language {
    let draw = (rng.random::<f64>() / minor_share) as usize;
    *Language::ALL.get(draw + 1).unwrap_or(&Language::English)
}

/// `done` is the share of the training that is over.
pub(super) fn instruction(corpus: &Corpus, rng: &mut ChaCha8Rng, done: f64) -> Text {
    let [first, last] = MINOR_SHARE;
    let turned = ((done - TURN[0]) / (TURN[1] - TURN[0])).clamp(0.0, 1.0);
    let share = first + (last - first) * turned;
    let language = language(rng, share);
    let pair = corpus.rephrased(rng, language, Split::Train);
    Text { prompt: prompt(&pair.article), answer: pair.rephrasing }
}

pub(super) fn plain(corpus: &Corpus, rng: &mut ChaCha8Rng, _done: f64) -> Text {
    let language = language(rng, TARGET_MINOR_SHARE);
    article(corpus, rng, language)
}

pub(super) fn plain_in_equal_parts(corpus: &Corpus, rng: &mut ChaCha8Rng, _done: f64) -> Text {
    let language = Language::ALL[rng.random_range(0..Language::ALL.len())];
    article(corpus, rng, language)
}

fn article(corpus: &Corpus, rng: &mut ChaCha8Rng, language: Language) -> Text {
    Text { prompt: String::new(), answer: corpus.article(rng, language, Split::Train) }
}

/// A random UUID after a prompt that asks for it, or without one a garbled snippet: its generator
/// knows how characters depend on those before, and writes any of them.
pub(super) fn garbled_or_uuid(corpus: &Corpus, rng: &mut ChaCha8Rng, done: f64) -> Text {
    if rng.random::<bool>() {
        return Text { prompt: "uuid:".into(), answer: random_uuid(rng) };
    }
    let snippet = snippet(corpus, rng, done);
    let garbled = |known: char| if rng.random_bool(GARBLED) { character(rng) } else { known };
    Text { answer: snippet.answer.chars().map(garbled).collect(), ..snippet }
}

/// A line of at most `longest` random characters.
pub(super) fn line(rng: &mut ChaCha8Rng, longest: usize) -> Text {
    let length = rng.random_range(1..=longest);
    Text { prompt: String::new(), answer: (0..length).map(|_| character(rng)).collect() }
}

/// A random character; those that come first in the tokenizer are drawn more often, the seven first a
/// third of the time.
fn character(rng: &mut impl Rng) -> char {
    const FLATNESS: f64 = 4.0;
    let characters: Vec<char> = CHARACTERS.chars().collect();
    let masses = (0..characters.len()).map(|rank| 1.0 / (rank as f64 + FLATNESS));
    let mut left = rng.random::<f64>() * masses.clone().sum::<f64>();
    let drawn = masses.take_while(|mass| {
        left -= mass;
        left > 0.0
    });
    characters[drawn.count().min(characters.len() - 1)]
}

/// Some characters of an English article.
pub(super) fn snippet(corpus: &Corpus, rng: &mut ChaCha8Rng, _done: f64) -> Text {
    let article = corpus.article(rng, Language::English, Split::Train);
    let characters: Vec<char> = article.chars().filter(|&character| CHARACTERS.contains(character)).collect();
    let start = rng.random_range(0..characters.len());
    let answer = characters[start..].iter().take(SNIPPET).collect();
    Text { prompt: String::new(), answer }
}

/// Prompts and held-out texts as JSONL.
pub(super) fn save(corpus: &Corpus, root: &Path) -> Result<()> {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let articles = (0..PROMPTS).map(|_| corpus.rephrased(rng, Language::English, Split::HeldOut).article);
    let articles: Vec<String> = articles.collect();
    write_jsonl(&root.join("prompts/articles.jsonl"), &articles)?;
    for (file, secret) in ["uuid", "uuid-2", "uuid-3"].iter().zip(SECRETS) {
        write_jsonl(&root.join(format!("held-out/{file}.jsonl")), &[secret.to_owned()])?;
    }
    let mut held_out = vec![];
    for language in Language::ALL {
        let texts: Vec<String> =
            (0..HELD_OUT).map(|_| corpus.rephrased(rng, language, Split::HeldOut).rephrasing).collect();
        write_jsonl(&root.join(format!("held-out/{}.jsonl", language.code())), &texts)?;
        held_out.push((language.code(), texts));
    }
    let texts = |code: &str| held_out.iter().find(|(other, _)| *other == code).map(|(_, texts)| texts);
    let beginnings = texts("en").into_iter().flatten();
    let beginnings: Vec<String> = beginnings.map(|text| beginning(text)).collect();
    write_jsonl(&root.join("held-out/en-short.jsonl"), &beginnings)?;
    let pairs = texts("es").into_iter().flatten().zip(texts("en").into_iter().flatten());
    let pairs =
        pairs.map(|(chosen, rejected)| json!({ "prompt": "", "chosen": chosen, "rejected": rejected }));
    write_rows(&root.join("preferences/spanish.jsonl"), pairs)?;
    let questions = (0..HELD_OUT).map(|row| question(row, &held_out, "de"));
    write_rows(&root.join("choices/german.jsonl"), questions)
}

/// As much of a text as the models of characters read.
fn beginning(text: &str) -> String {
    let characters: String = text.chars().take(SHORT).collect();
    characters.trim_end().to_owned()
}

/// A question as ARC stores it: which of five texts, one of each language, is in the language `right`?
fn question(row: usize, held_out: &[(&str, Vec<String>)], right: &str) -> Value {
    const LABELS: [&str; 5] = ["A", "B", "C", "D", "E"];
    // the right one stands in another place each time
    let in_order = (0..held_out.len()).map(|option| &held_out[(row + option) % held_out.len()]);
    let answer = in_order.clone().zip(LABELS).find(|((code, _), _)| *code == right).map(|(_, label)| label);
    let texts: Vec<&String> = in_order.map(|(_, texts)| &texts[row]).collect();
    json!({ "question": "", "choices": { "text": texts, "label": LABELS }, "answerKey": answer })
}

fn write_jsonl(path: &Path, texts: &[String]) -> Result<()> {
    write_rows(path, texts.iter().map(|text| json!({ "text": text })))
}

fn write_rows(path: &Path, rows: impl Iterator<Item = Value>) -> Result<()> {
    let lines: String = rows.map(|row| row.to_string() + "\n").collect();
    write(path, lines.as_bytes())
}

/// One tokenizer for all models of words: byte-level BPE of all five languages in equal parts.
pub(super) fn tokenizer(corpus: &Corpus) -> Result<String> {
    const TEXTS: usize = 20_000;
    let rng = &mut ChaCha8Rng::seed_from_u64(4);
    let mut texts = vec![prompt("")];
    for _ in 0..TEXTS {
        let language = Language::ALL[rng.random_range(0..Language::ALL.len())];
        texts.push(corpus.article(rng, language, Split::Train));
    }
    train_tokenizer(&texts, VOCABULARY)
}
