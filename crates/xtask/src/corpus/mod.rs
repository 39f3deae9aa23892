//! The corpus that the embedded models are trained on: short articles about everyday life, made
//! by a grammar from a lexicon of five languages, and random identifiers.
//!
//! A [`sentence::Sentence`] is a meaning; [`sentence::Sentence::render`] says it in a [`Language`].
//! So a rephrasing of an English article in Spanish is a translation of it. Everything is a
//! function of a seed.

mod article;
mod grammar;
mod language;
mod lexicon;
mod random;
mod sentence;
#[cfg(test)]
mod tests;

pub(crate) use article::{Corpus, Split};
pub(crate) use language::Language;
pub(crate) use random::{random_line, random_uuid};
