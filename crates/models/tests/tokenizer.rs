//! Tokenizers of the golden folders against what transformers says of them.

use std::{fs, path::PathBuf};

use dpg_models::{Error, Tokenizer};
use serde::Deserialize;
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// One text as transformers encodes and decodes it.
#[derive(Deserialize)]
struct Encoded {
    folder: String,
    text: String,
    ids: Vec<u32>,
    with_special: Vec<u32>,
    decoded: String,
}

#[test]
fn encodes_and_decodes_as_transformers() {
    let cases: Vec<Encoded> = serde_json::from_slice(&fs::read(golden("tokens.json")).unwrap()).unwrap();
    assert!(cases.len() > 8);
    for case in cases {
        let tokenizer = Tokenizer::load(&golden(&case.folder)).unwrap();
        assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{} {}", case.folder, case.text);
        assert_eq!(tokenizer.encode_with_special(&case.text).unwrap(), case.with_special, "{}", case.folder);
        assert_eq!(tokenizer.decode(&case.with_special).unwrap(), case.decoded, "{}", case.folder);
    }
}

#[test]
fn roles_come_from_the_folder() {
    let roles = |name: &str| {
        let tokenizer = Tokenizer::load(&golden(name)).unwrap();
        assert_eq!(tokenizer.vocab_size(), 96);
        let adds_bos = tokenizer.adds_bos();
        (tokenizer.bos(), adds_bos, tokenizer.eos(), tokenizer.stop().to_vec(), tokenizer.pad())
    };
    assert_eq!(roles("gpt2"), (Some(1), false, Some(1), vec![1], None));
    // no generation_config.json
    assert_eq!(roles("gpt2-hub"), (Some(1), false, Some(1), vec![1], None));
    assert_eq!(roles("llama"), (Some(1), true, Some(2), vec![2], None));
    // a list in generation_config.json
    assert_eq!(roles("qwen2"), (Some(1), false, Some(2), vec![2, 1], Some(1)));
}

#[test]
fn roles_fall_back_and_settings_of_the_file_are_dropped() {
    let folder = TempDir::new().unwrap();
    let put = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    let text = fs::read_to_string(golden("llama").join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["truncation"] = serde_json::json!(
        { "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 }
    );
    put("tokenizer.json", &json.to_string());
    let load = || Tokenizer::load(folder.path()).unwrap();

    assert_eq!((load().eos(), load().stop().len()), (None, 0));
    assert_eq!(load().encode("the quick brown fox").unwrap().len(), {
        Tokenizer::load(&golden("llama")).unwrap().encode("the quick brown fox").unwrap().len()
    });
    // alone, each is used for both roles; an added token may be an object
    put("special_tokens_map.json", r#"{"eos_token": {"content": "</s>", "lstrip": false}}"#);
    assert_eq!((load().eos(), load().stop().to_vec()), (Some(2), vec![2]));
    put("config.json", r#"{"eos_token_id": [1, 0]}"#);
    assert_eq!((load().eos(), load().stop().to_vec()), (Some(2), vec![1, 0]));
    put("generation_config.json", r#"{"eos_token_id": 5}"#);
    assert_eq!((load().eos(), load().stop().to_vec()), (Some(2), vec![5]));
}

/// A folder with the files of golden folder `name` that make its tokenizer, tokenizer.json changed.
fn changed(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> TempDir {
    let folder = TempDir::new().unwrap();
    let text = fs::read_to_string(golden(name).join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    change(&mut json);
    fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    for file in ["tokenizer_config.json", "config.json"] {
        fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

#[test]
fn dropout_of_merges_is_off_and_said_to_be() {
    const TEXT: &str = "the small dog and the other small dog is on the other small mouse";
    let plain = Tokenizer::load(&golden("llama")).unwrap();
    assert_eq!(plain.warnings(), [""; 0]);
    let folder = changed("llama", |file| file["model"]["dropout"] = 0.5.into());
    let random = Tokenizer::load(folder.path()).unwrap();
    for _ in 0..20 {
        assert_eq!(random.encode_text(TEXT, true).unwrap(), plain.encode_text(TEXT, true).unwrap());
    }
    let [warning] = random.warnings() else { panic!("{:?}", random.warnings()) };
    let file = folder.path().join("tokenizer.json").display().to_string();
    assert!(
        [file.as_str(), "`model.dropout` = 0.5", "transformers"].iter().all(|part| warning.contains(part)),
        "{warning}"
    );
    // none is none
    let folder = changed("llama", |file| file["model"]["dropout"] = 0.0.into());
    assert_eq!(Tokenizer::load(folder.path()).unwrap().warnings(), [""; 0]);
}

#[test]
fn a_class_that_is_not_known_is_said() {
    let folder = changed("llama", |_| ());
    let put = |class: &str| {
        let config = serde_json::json!({ "tokenizer_class": class, "eos_token": "</s>", "bos_token": "<s>" });
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        Tokenizer::load(folder.path()).unwrap().warnings().to_vec()
    };
    assert_eq!(put("PreTrainedTokenizerFast"), [""; 0]);
    let warnings = put("T5TokenizerFast");
    assert!(warnings.len() == 1 && warnings[0].contains("`T5Tokenizer`"), "{warnings:?}");
}

#[test]
fn unused_ids_are_those_without_a_token() {
    let folder = changed("llama", |file| {
        file["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
            "id": 99, "content": "[A]", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    });
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    let known = (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.token(id).is_some()).count();
    assert_eq!(tokenizer.unused(120).len(), 120 - known);
    assert_eq!(tokenizer.unused(96), [0; 0]);
    assert_eq!(Tokenizer::load(&golden("llama")).unwrap().unused(98), [96, 97]);
}

#[test]
fn marks_the_tokens_that_cover_a_range() {
    let tokenizer = Tokenizer::load(&golden("qwen2")).unwrap();
    let text = "the dog sleeps<|im_end|> café";
    let at = |part: &str| {
        let start = text.find(part).unwrap();
        start..start + part.len()
    };
    let marked = |ranges: &[std::ops::Range<usize>]| {
        let (ids, marks) = tokenizer.encode_marked(text, ranges).unwrap();
        assert_eq!(ids, tokenizer.encode(text).unwrap());
        let marked = ids.iter().zip(&marks).filter(|(_, mark)| **mark).map(|(&id, _)| id);
        tokenizer.decode_with_special(&marked.collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(marked(&[at("<|im_end|>")]), "<|im_end|>");
    assert_eq!(marked(&[at(" sleeps<|im_end|>")]), " sleeps<|im_end|>");
    assert_eq!(marked(&[at("the"), at("é")]), "theé");
    assert_eq!(marked(&[at("")]), "");
}

#[test]
fn a_folder_without_a_tokenizer_is_refused() {
    let folder = TempDir::new().unwrap();
    let error = Tokenizer::load(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::MissingFile { file, .. } if file == "tokenizer.json"), "{error}");
    assert!(error.to_string().contains("save_pretrained"), "{error}");
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let error = Tokenizer::load(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Malformed { path, .. } if path.ends_with("tokenizer.json")), "{error}");
}
