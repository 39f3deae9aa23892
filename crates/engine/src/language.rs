//! Which languages texts are in.

use std::collections::BTreeMap;

use whatlang::{Detector, Lang};

/// Shares of languages by their ISO 639-3 codes, most frequent first. The choice is among seven
/// West European languages, since short texts in one of them are easily taken for a rarer relative.
pub fn languages(texts: &[String]) -> Vec<(String, f64)> {
    let detector = Detector::with_allowlist(vec![
        Lang::Eng,
        Lang::Spa,
        Lang::Fra,
        Lang::Deu,
        Lang::Ita,
        Lang::Por,
        Lang::Nld,
    ]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(detector.detect_lang(text).map_or("und", |language| language.code())).or_default() += 1;
    }
    let mut shares: Vec<(String, f64)> = counts
        .into_iter()
        .map(|(code, count)| (code.to_owned(), count as f64 / texts.len() as f64))
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}
