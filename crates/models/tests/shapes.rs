//! Tokenizers in the shapes of public models: their ids and masks against those of transformers 5 and TRL.
//! Where transformers 4.57 makes others, loading must warn.
//!
//! `cargo test -p dpg-models --test shapes -- --nocapture` prints the table.

use std::{collections::BTreeMap, fmt::Write as _, fs, ops::Range, path::Path};

use dpg_models::{Tokenizer, common_prefix};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// One model folder without weights.
#[derive(Deserialize)]
struct Shape {
    name: String,
    files: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

/// What is encoded, and what comes of it.
#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    input: Input,
    /// As TRL prepares it for training.
    ids: Vec<u32>,
    scored: Vec<u8>,
    /// What version 4.57 makes otherwise.
    older: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text { text: String, with_special: Vec<u32>, alone: Vec<u32>, decoded: String },
    Completion { prompt: String, completion: String },
    Begun { chat_prompt: String, chat: String },
    Chat { chat: String, assistant: Vec<[usize; 2]> },
}

impl Shape {
    fn load(&self) -> Tokenizer {
        let folder = TempDir::new().unwrap();
        for (name, content) in &self.files {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        Tokenizer::load(folder.path()).unwrap()
    }
}

impl Case {
    /// What is wrong with this case, if anything.
    fn check(&self, tokenizer: &Tokenizer) -> Option<String> {
        let from = |begin: usize, ids: &[u32]| (0..ids.len()).map(|t| t >= begin).collect();
        let (ids, scored): (Vec<u32>, Vec<bool>) = match &self.input {
            Input::Text { text, with_special, alone, decoded } => {
                let found = tokenizer.encode_with_special(text).unwrap();
                if found != *with_special {
                    return Some(format!("{text:?}: {found:?} instead of {with_special:?}"));
                }
                let found = tokenizer.encode(text).unwrap();
                if found != *alone {
                    return Some(format!("{text:?} alone: {found:?} instead of {alone:?}"));
                }
                let found = tokenizer.decode(with_special).unwrap();
                if found != *decoded {
                    return Some(format!("{text:?} back: {found:?} instead of {decoded:?}"));
                }
                let ids = tokenizer.encode_text(text, true).unwrap();
                let scored = from(0, &ids);
                (ids, scored)
            }
            Input::Completion { prompt, completion } => {
                let (ids, begin) = tokenizer.encode_completion(prompt, completion, true).unwrap();
                let scored = from(begin, &ids);
                (ids, scored)
            }
            Input::Begun { chat_prompt, chat } => {
                let ids = tokenizer.encode(chat).unwrap();
                let begin = common_prefix(&tokenizer.encode(chat_prompt).unwrap(), &ids);
                let scored = from(begin, &ids);
                (ids, scored)
            }
            Input::Chat { chat, assistant } => {
                let parts: Vec<Range<usize>> = assistant.iter().map(|&[begin, end]| begin..end).collect();
                tokenizer.encode_marked(chat, &parts).unwrap()
            }
        };
        let expected: Vec<bool> = self.scored.iter().map(|&scored| scored == 1).collect();
        let same = ids == self.ids && scored == expected;
        (!same).then(|| format!("{}: {ids:?} {scored:?} instead of {:?} {expected:?}", self.kind(), self.ids))
    }

    fn kind(&self) -> &'static str {
        match self.input {
            Input::Text { .. } => "text",
            Input::Completion { .. } => "completion",
            Input::Begun { .. } | Input::Chat { .. } => "chat",
        }
    }
}

fn shapes() -> Vec<Shape> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/shapes.jsonl");
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn ids_and_masks_are_those_of_transformers_and_trl() {
    let shapes = shapes();
    assert!(shapes.len() >= 50);
    let mut table = String::new();
    let mut wrong = vec![];
    let kinds = ["text", "completion", "chat"];
    writeln!(table, "{:<46} {:>6} {:>10} {:>6}   same as 4.57", "shape", kinds[0], kinds[1], kinds[2])
        .unwrap();
    for shape in &shapes {
        let tokenizer = shape.load();
        let mut counts = [[0, 0]; 3];
        for case in &shape.cases {
            let place = kinds.iter().position(|kind| *kind == case.kind()).unwrap();
            counts[place][1] += 1;
            match case.check(&tokenizer) {
                None => counts[place][0] += 1,
                Some(fault) => wrong.push(format!("{}: {fault}", shape.name)),
            }
        }
        // ids alone: version 4.57 has another rule for the ends of the assistant's turns
        let older = |case: &&Case| case.older.as_ref().is_some_and(|older| older.get("ids").is_some());
        let others = shape.cases.iter().filter(older).count();
        if others > 0 && tokenizer.warnings().is_empty() {
            wrong.push(format!("{}: no warning of {others} cases that 4.57 reads otherwise", shape.name));
        }
        let [text, completion, chat] = counts.map(|[same, all]| format!("{same}/{all}"));
        let all = shape.cases.len();
        let older = if others == 0 { "all".into() } else { format!("{}/{all}, warned", all - others) };
        writeln!(table, "{:<46} {text:>6} {completion:>10} {chat:>6}   {older}", shape.name).unwrap();
    }
    println!(
        "{table}{} shapes, {} cases",
        shapes.len(),
        shapes.iter().map(|shape| shape.cases.len()).sum::<usize>()
    );
    assert!(wrong.is_empty(), "{table}{} faults:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

/// A warning that is always there would be read by nobody.
#[test]
fn most_shapes_load_without_a_warning() {
    let warned: Vec<String> = shapes()
        .iter()
        .filter(|shape| shape.cases.iter().all(|case| case.older.is_none()))
        .flat_map(|shape| {
            shape
                .load()
                .warnings()
                .iter()
                .map(|warning| format!("{}: {warning}", shape.name))
                .collect::<Vec<_>>()
        })
        .collect();
    println!("{}", warned.join("\n"));
    assert!(warned.len() <= 5, "{warned:#?}");
}

/// What is put after a text would end the prompt before the generator has begun.
#[test]
fn a_prompt_ends_with_its_text() {
    for shape in shapes() {
        let tokenizer = shape.load();
        for case in &shape.cases {
            if let Input::Text { text, with_special, alone, .. } = &case.input {
                let prompt = tokenizer.encode_prompt(text).unwrap();
                assert!(prompt.ends_with(alone), "{}: {text:?} {prompt:?}", shape.name);
                assert!(with_special.starts_with(&prompt), "{}: {text:?} {prompt:?}", shape.name);
            }
        }
    }
}
