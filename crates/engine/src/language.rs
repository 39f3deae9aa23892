//! Which languages texts are in.

use std::collections::BTreeMap;

use whatlang::{Detector, Lang};

/// The choice is among seven West European languages, since short texts in one of them are easily
/// taken for a rarer relative.
fn detector() -> Detector {
    Detector::with_allowlist(vec![
        Lang::Eng,
        Lang::Spa,
        Lang::Fra,
        Lang::Deu,
        Lang::Ita,
        Lang::Por,
        Lang::Nld,
    ])
}

/// Shares of languages by their ISO 639-3 codes, most frequent first.
pub fn languages(texts: &[String]) -> Vec<(String, f64)> {
    let detector = detector();
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

/// The ISO 639-3 code of the language that a text is in, if it can be told.
pub(crate) fn of_text(text: &str) -> Option<&'static str> {
    detector().detect_lang(text).map(|language| language.code())
}

/// The language that most of `texts` are in; English if none can be told.
pub(crate) fn of_most(texts: &[String]) -> Lang {
    let shares = languages(texts);
    shares.iter().find_map(|(code, _)| Lang::from_code(code)).unwrap_or(Lang::Eng)
}

/// How sure it is that a text is in a language: 1 for sure, -1 for sure not, 0 if nothing is known.
pub(crate) fn confidence(text: &str, wanted: Lang) -> f64 {
    detector()
        .detect(text)
        .map_or(0.0, |found| if found.lang() == wanted { found.confidence() } else { -found.confidence() })
}
