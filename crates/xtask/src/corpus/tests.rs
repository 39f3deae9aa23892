//! The corpus is deterministic, varied, in the language it says, and its halves are disjoint.

use std::collections::HashSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Corpus, Language, Split, random_uuid};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn sentences(text: &str) -> Vec<String> {
    text.split_inclusive(". ").map(|one| one.trim_end().to_owned()).collect()
}

#[test]
fn a_seed_decides_the_text() {
    let corpus = Corpus::new().unwrap();
    let draw = |seed| corpus.article(&mut rng(seed), Language::German, Split::Train);
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn texts_do_not_repeat() {
    let corpus = Corpus::new().unwrap();
    for language in Language::ALL {
        let mut rng = rng(3);
        let texts: HashSet<String> =
            (0..2000).map(|_| corpus.article(&mut rng, language, Split::Train)).collect();
        assert!(texts.len() >= 1990, "{language:?}: {}", texts.len());
    }
}

#[test]
fn no_held_out_sentence_is_in_the_training_half() {
    let corpus = Corpus::new().unwrap();
    let mut rng = rng(4);
    for language in Language::ALL {
        let mut held_out = HashSet::new();
        for _ in 0..2000 {
            held_out.extend(sentences(&corpus.article(&mut rng, language, Split::HeldOut)));
        }
        for _ in 0..5000 {
            let pair = corpus.rephrased(&mut rng, language, Split::Train);
            let article = corpus.article(&mut rng, language, Split::Train);
            for sentence in [pair.article, pair.rephrasing, article].iter().flat_map(|text| sentences(text)) {
                assert!(!held_out.contains(&sentence), "{sentence}");
            }
        }
    }
}

#[test]
fn an_independent_reader_recognises_each_language() {
    let corpus = Corpus::new().unwrap();
    let expected = [
        whatlang::Lang::Eng,
        whatlang::Lang::Spa,
        whatlang::Lang::Fra,
        whatlang::Lang::Deu,
        whatlang::Lang::Ita,
    ];
    let detector = whatlang::Detector::with_allowlist(expected.to_vec());
    for (language, expected) in Language::ALL.into_iter().zip(expected) {
        let mut rng = rng(5);
        let texts: Vec<String> =
            (0..1000).map(|_| corpus.rephrased(&mut rng, language, Split::Train).rephrasing).collect();
        let recognised = texts.iter().filter(|text| detector.detect_lang(text) == Some(expected)).count();
        let unaided = texts.iter().filter(|text| whatlang::detect_lang(text) == Some(expected)).count();
        println!("{language:?} {recognised} {unaided}");
        assert!(recognised > 940, "{language:?}: {recognised} of 1000");
    }
}

#[test]
fn uuids_are_of_version_4() {
    let uuid = random_uuid(&mut rng(6));
    assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
    assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
    assert_eq!(uuid.matches('-').count(), 4);
}
