use std::path::Path;

use dpg_spec::{Metric, SharesOf};

use super::*;

/// The texts, of these in order, that a gate lets pass, and why it refuses others.
fn passed(gate: &str, held_out: &HeldOutTexts, texts: &[&str]) -> (Vec<String>, Refused) {
    let gate: dpg_spec::Gate = toml::from_str(gate).unwrap();
    let around = Around { held_out, scratch: Path::new(""), stop: &|| false };
    let mut gates = Gates::open(&[gate], around).unwrap();
    let mut passed = vec![];
    for text in texts {
        let example = Example::Text((*text).into());
        let tokens = text.split(' ').count();
        if gates.take(&Candidate { example: &example, prompt: "", text, measure: measure(tokens) }).unwrap() {
            passed.push((*text).to_owned());
        }
    }
    (passed, gates.refused)
}

fn through(gate: &str, texts: &[&str]) -> Vec<String> {
    passed(gate, &HeldOutTexts::default(), texts).0
}

const FOX: &str =
    "The quick brown fox jumps over the lazy dog while the old cat sleeps in the warm morning sun.";

fn measure(tokens: usize) -> Measure<'static> {
    Measure { tokens, prompts: None }
}

#[test]
fn duplicates_are_refused_and_near_ones_if_that_is_asked_for() {
    let near = FOX.replace("warm", "cold");
    let spaced = FOX.replace(' ', "\n ").to_uppercase();
    let other = "A completely different sentence about trains, which leave the station at noon and come back at night.";
    let texts = [FOX, &near, FOX, other, &spaced, ""];
    let (exact, refused) = passed("kind = 'duplicates'", &HeldOutTexts::default(), &texts);
    assert_eq!(exact, [FOX, &near, other, &spaced]);
    assert_eq!(refused, [("empty".to_owned(), 1), ("the same as an earlier row".to_owned(), 1)].into());
    assert_eq!(through("kind = 'duplicates'\nsimilarity = 0.7", &texts), [FOX, other]);
    // of their runs of characters, 80 to 90 of 100 are the same
    assert_eq!(through("kind = 'duplicates'\nsimilarity = 0.99", &[FOX, &near, &spaced]), [FOX, &near]);
}

/// What a metric on these texts holds out.
fn held_out(texts: &[&str]) -> HeldOutTexts {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("held-out.jsonl");
    let lines: String =
        texts.iter().map(|text| format!("{}\n", serde_json::json!({ "text": text }))).collect();
    std::fs::write(&path, lines).unwrap();
    let settings = serde_json::json!({ "data": { "path": path, "column": "text" } });
    HeldOutTexts::read(&Metric::HeldOutLoss(serde_json::from_value(settings).unwrap())).unwrap()
}

#[test]
fn copies_of_what_is_held_out_are_refused() {
    let held_out = held_out(&[FOX, "123e4567-e89b-12d3", "yes"]);
    let copy = "He said: the QUICK brown fox, jumps over the lazy dog! Nobody knew why he said so at that time of day.";
    let near = "The quick brown fox jumps over a lazy dog.";
    let id = "The id is 123e4567 e89b 12d3 as ever.";
    let texts = [copy, near, id, "yes, of course"];
    let through = |gate: &str| passed(gate, &held_out, &texts).0;
    assert_eq!(through("kind = 'held_out_overlap'"), [near, "yes, of course"]);
    assert_eq!(through("kind = 'held_out_overlap'\nwords = 5"), ["yes, of course"]);
    // a tenth of its runs
    assert_eq!(through("kind = 'held_out_overlap'\nshare = 0.2"), [copy, near, "yes, of course"]);
    let copies = Copies::of(dpg_spec::HeldOutOverlap::default(), &HeldOutTexts::default());
    assert!(copies.is_empty() && !copies.has(&Example::Text(FOX.into())));
}

#[test]
fn validators_let_pass_what_is_valid() {
    assert_eq!(
        through(
            "kind = 'language'\nlanguages = ['spa', 'ita']",
            &[
                "El perro come la manzana roja en la casa.",
                FOX,
                "La casa è bella e il cane mangia la mela rossa."
            ]
        ),
        ["El perro come la manzana roja en la casa.", "La casa è bella e il cane mangia la mela rossa."]
    );
    assert_eq!(
        through("kind = 'length'\nmin = 2\nmax = 3", &["a", "a b", "a b c", "a b c d"]),
        ["a b", "a b c"]
    );
    assert_eq!(through("kind = 'length'\nmin = 2", &["a", "a b c d"]), ["a b c d"]);
    assert_eq!(
        through("kind = 'regex'\npattern = '^Answer: \\d+$'", &["Answer: 12", "Answer: twelve"]),
        ["Answer: 12"]
    );
    // it tries more ways than it may
    assert_eq!(
        through("kind = 'regex'\npattern = '(a*)*(?=b)\\1c'", &[&"a".repeat(60)]),
        Vec::<String>::new()
    );
    let texts =
        [r#"{"answer": 12}"#, " [1]\n", r#"{"answer": "x"}"#, "12 apples", r#"{"answer": 1, "b": []}"#];
    assert_eq!(through("kind = 'json'", &texts), [texts[0], texts[1], texts[2], texts[4]]);
    let schema = "kind = 'json'\nschema = { type = 'object', required = ['answer'], additionalProperties = false, \
                  properties = { answer = { type = ['integer', 'null'], minimum = 2 } } }";
    assert_eq!(through(schema, &texts), [texts[0]]);
    let list = "kind = 'json'\nschema = { items = { enum = ['a', 'bb'], pattern = '^[ab]+$', minLength = 2 }, minItems = 1 }";
    assert_eq!(through(list, &[r#"["bb"]"#, r#"["a"]"#, "[]", r#"["c"]"#]), [r#"["bb"]"#]);
}

#[test]
fn a_program_says_what_is_valid() {
    let mut gate: dpg_spec::Gate = toml::from_str("kind = 'program'\nprogram = 'even'").unwrap();
    let dpg_spec::Gate::Program(settings) = &mut gate else { panic!("{gate:?}") };
    let answer = |word: &str| format!("*{word}*) echo '{{\"valid\": true}}';; ");
    let script = format!(
        "while read -r line; do case \"$line\" in {}*) echo '{{\"valid\": false}}';; esac; done",
        answer("even")
    );
    let folder = tempfile::tempdir().unwrap();
    let held_out = HeldOutTexts::default();
    let around = Around { held_out: &held_out, scratch: folder.path(), stop: &|| false };
    assert!(Gates::open(&[dpg_spec::Gate::Program(settings.clone())], around).is_err());
    settings.command = Some(script);
    let mut gates = Gates::open(&[gate], around).unwrap();
    for (text, valid) in [("an even row", true), ("an odd row", false), ("even so", true)] {
        let example = Example::Text(text.into());
        let row = Candidate { example: &example, prompt: "p", text, measure: measure(1) };
        assert_eq!(gates.take(&row).unwrap(), valid, "{text}");
    }
    assert_eq!(gates.refused, [("invalid, as `even` says".to_owned(), 1)].into());
    drop(gates);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn quotas_hold_rows_and_tokens_to_their_shares() {
    let length: dpg_spec::Length = toml::from_str(
        "mix = [{ name = 'short', max = 2, share = 0.5 }, { name = 'long', min = 3, max = 6, share = 0.5 }]",
    )
    .unwrap();
    let rows: Vec<usize> = (0..4000).map(|row| if row % 4 == 0 { 1 } else { 3 + row % 5 }).collect();
    for (of, expected) in [(SharesOf::Rows, 0.5), (SharesOf::Tokens, 0.5)] {
        let mut gates = Gates::default();
        quotas(&mut gates, &length.classes(), &[0.5, 0.5], of, 1000);
        let (mut sums, mut kept) = ([0.0; 2], 0);
        for &tokens in &rows {
            let example = Example::Text("x".into());
            if kept < 1000
                && gates
                    .take(&Candidate { example: &example, prompt: "", text: "x", measure: measure(tokens) })
                    .unwrap()
            {
                kept += 1;
                let counts = if of == SharesOf::Rows { 1.0 } else { tokens as f64 };
                sums[usize::from(tokens > 2)] += counts;
            }
        }
        let share = sums[0] / (sums[0] + sums[1]);
        assert!((share - expected).abs() < 0.02, "{of:?}: {share} of {kept}");
        assert_eq!(kept, 1000);
        // 7 tokens
        assert!(gates.refused.keys().any(|reason| reason.starts_with("in no class")), "{:?}", gates.refused);
    }
}
