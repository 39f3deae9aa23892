//! Model folders that somebody made to harm: each is refused, soon, and with its file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dpg_models::{ChatTemplate, Conversation, Tokenizer, architecture, export, weights};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// A copy of a golden folder that a test may damage.
fn copy(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whatever goes wrong with loading all of a folder.
fn load(folder: &Path) -> Result<(), dpg_models::Error> {
    let lm = architecture(folder)?;
    let theta = weights::load::<f32>(folder, lm.layout())?;
    Tokenizer::load(folder)?;
    if folder.join("chat_template.jinja").exists() {
        ChatTemplate::load(folder)?;
    }
    let to = TempDir::new().unwrap();
    export(folder, &to.path().join("model"), lm.layout(), &theta, dpg_models::StoredType::F32)
}

/// What a user says.
fn turn(content: &str) -> serde_json::Map<String, serde_json::Value> {
    [("role", "user"), ("content", content)]
        .map(|(key, value)| (key.to_owned(), value.into()))
        .into_iter()
        .collect()
}

#[test]
fn a_template_ends_whatever_it_does() {
    let loops = "{% for a in range(100000) %}".repeat(4) + &"{% endfor %}".repeat(4);
    let writes = "{% for a in range(100000) %}".to_owned() + &"x".repeat(10_000) + "{% endfor %}";
    let recursion = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    let includes = "{% include 'default' %}";
    let nested = "{{ ".to_owned() + &"(".repeat(100_000) + "1" + &")".repeat(100_000) + " }}";
    let blocks = "{% if true %}".repeat(10_000) + &"{% endif %}".repeat(10_000);
    for (template, expected) in [
        (loops.as_str(), "fuel"),
        (&writes, "16777216 bytes"),
        (recursion, "recursion"),
        (includes, "recursion"),
        (&nested, "recursion"),
        (&blocks, ""),
    ] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        // as deep as the thread of a run goes
        let render = move || {
            let turns = [turn("a")];
            let conversation = Conversation { turns: &turns, ..Conversation::default() };
            ChatTemplate::load(folder.path())?.render(&conversation, true).map(drop)
        };
        let error = std::thread::spawn(render).join().unwrap().unwrap_err();
        let error = chain(&error);
        assert!(error.contains("chat_template.jinja") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_long_conversation_is_no_attack() {
    let folder = copy("qwen2");
    let template =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}";
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let long = "a".repeat(10_000);
    let turns: Vec<_> = (0..1000).map(|_| turn(&long)).collect();
    let conversation = Conversation { turns: &turns, ..Conversation::default() };
    let text = ChatTemplate::load(folder.path()).unwrap().render(&conversation, false).unwrap();
    assert!(text.len() > 10_000_000);
}

#[test]
fn a_pattern_that_backtracks_is_an_error() {
    for pattern in ["(?:a|aa)+(?!a)b", "(?:a+a+)+(?!a)b"] {
        let folder = copy("llama");
        let path = folder.path().join("tokenizer.json");
        let mut file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        file["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false },
        ] });
        fs::write(&path, file.to_string()).unwrap();
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        assert!(!tokenizer.encode("the quick brown fox").unwrap().is_empty());
        let encoded = tokenizer.encode(&"a".repeat(5000)).map(|ids| ids.len());
        let error = encoded.unwrap_err().to_string();
        assert!(error.contains(pattern) && error.contains("backtrack"), "{error}");
    }
    let tokenizer = Tokenizer::load(&golden("qwen2")).unwrap();
    assert!(tokenizer.encode(&"a".repeat((16 << 20) + 1)).unwrap_err().to_string().contains("16777216"));
    // long runs of one letter, or of none
    for text in [" ".repeat(50_000), "a".repeat(50_000), "\n ".repeat(20_000), "é1".repeat(20_000)] {
        tokenizer.encode(&text).unwrap();
    }
}

#[test]
fn what_is_no_file_is_refused_unopened() {
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "vocab.json",
    ] {
        for make in [fifo, folder_instead, device] {
            let folder = copy("llama");
            let path = folder.path().join(file);
            let _ = fs::remove_file(&path);
            make(&path);
            let error = chain(&load(folder.path()).unwrap_err());
            assert!(error.contains(file) && error.contains("a regular file is expected"), "{error}");
        }
    }
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn folder_instead(path: &Path) {
    fs::create_dir(path).unwrap();
}

fn device(path: &Path) {
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
}

#[test]
fn sizes_that_nobody_has_are_refused() {
    let holes = |name: &'static str, length: u64| {
        let folder = copy("llama");
        let file = fs::File::options().create(true).append(true).open(folder.path().join(name)).unwrap();
        file.set_len(length).unwrap();
        chain(&load(folder.path()).unwrap_err())
    };
    for name in
        ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"]
    {
        let error = holes(name, 1 << 42);
        assert!(error.contains(name) && error.contains("more than the limit"), "{error}");
    }
    for (key, size) in
        [("vocab_size", 1_u64 << 60), ("num_hidden_layers", 1 << 40), ("hidden_size", u64::MAX)]
    {
        let folder = copy("llama");
        let path = folder.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[key] = json!(size);
        fs::write(&path, config.to_string()).unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(key), "{error}");
        // within what is believed, and far more than there is
        config[key] = json!(1000);
        fs::write(&path, config.to_string()).unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model"), "{error}");
    }
    let folder = copy("llama");
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("header too large") && error.contains("damaged"), "{error}");
}

#[test]
fn an_index_names_files_beside_it() {
    for name in ["../secret", "/etc/passwd", "a/b", "..", ""] {
        let folder = copy("llama-sharded");
        let path = folder.path().join("model.safetensors.index.json");
        fs::write(&path, json!({ "weight_map": { "a": name } }).to_string()).unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is not the name of a file beside it"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bytes changed and cut off anywhere: an error or a model, and never a panic or a hang.
    #[test]
    fn a_damaged_folder_is_an_error_or_a_model(
        file in prop::sample::select(vec!["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        // where the header is
        early in any::<bool>(),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let folder = copy("llama");
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let within = if early { bytes.len().min(200) } else { bytes.len() };
        for (at, byte) in changes {
            let at = at.index(within);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        if load(folder.path()).is_ok() {
            let tokenizer = Tokenizer::load(folder.path()).unwrap();
            if let Ok(ids) = tokenizer.encode("the quick brown fox, é") {
                let _ = tokenizer.decode(&ids);
            }
        }
    }
}
