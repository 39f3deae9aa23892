//! What a target is trained on and a generator goes on from, whatever its tokenizer puts around a text.

use std::{fs, path::Path};

use burn::tensor::{DType, Device};
use dpg_dataset::Example;
use dpg_engine::{Target, Writer};
use dpg_generator::{Choice, Generator, Local};
use dpg_models::MatmulPrecision;
use dpg_spec::{Format, LossOn, Spec, Syntax};
use serde_json::{Value, json};
use tempfile::TempDir;

const SPEC: &str = r#"
name = "texts"
[target]
model = "MODEL"
[target.sft]
sequence_length = 32
[metric]
kind = "held_out_loss"
data = { path = "DATA", column = "text" }
[generator]
model = "MODEL"
prompts = { path = "DATA", column = "text" }
template = "{text}"
max_new_tokens = 8
[policy]
steps = 1
prompts_per_step = 2
group_size = 2
[output]
examples = 4
"#;
const BOS: u32 = 1;
const EOS: u32 = 2;

/// A model with another tokenizer.json or config.json, and three texts.
fn folder(change: impl FnOnce(&mut Value, &mut Value)) -> TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/llama");
    let folder = TempDir::new().unwrap();
    for file in ["model.safetensors", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(golden.join(file), folder.path().join(file)).unwrap();
    }
    let read = |file: &str| serde_json::from_slice(&fs::read(golden.join(file)).unwrap()).unwrap();
    let (mut tokenizer, mut config) = (read("tokenizer.json"), read("config.json"));
    change(&mut tokenizer, &mut config);
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let texts = ["the small dog", "a mouse", "is on the"].map(|text| json!({ "text": text }).to_string());
    fs::write(folder.path().join("texts.jsonl"), texts.join("\n")).unwrap();
    folder
}

fn spec(folder: &TempDir) -> Spec {
    let text = SPEC
        .replace("MODEL", &folder.path().to_string_lossy())
        .replace("DATA", &folder.path().join("texts.jsonl").to_string_lossy());
    Spec::parse(&text, Syntax::Toml).unwrap()
}

fn target(spec: &Spec) -> Target {
    Target::load(spec, DType::F64, &[Device::flex()], MatmulPrecision::F32).unwrap()
}

/// The post-processor puts `before` before and `after` after a text.
fn around(before: &[&str], after: &[&str]) -> impl FnOnce(&mut Value, &mut Value) {
    let part = |name: &&str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let mut single: Vec<Value> = before.iter().map(part).collect();
    single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
    single.extend(after.iter().map(part));
    move |tokenizer, _| {
        tokenizer["post_processor"]["single"] = single.into();
        tokenizer["post_processor"]["special_tokens"] = json!({
            "<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [EOS], "tokens": ["</s>"]},
        });
    }
}

#[test]
fn a_prompt_and_its_completion_are_one_text() {
    let pairs =
        [("the small", " dog is"), ("the sma", "ll dog"), ("the ", "dog"), ("", "the dog"), ("the", "")];
    for (before, after) in
        [(vec![], vec![]), (vec!["<s>"], vec![]), (vec![], vec!["</s>"]), (vec!["<s>"], vec!["</s>"])]
    {
        let mut spec = spec(&folder(around(&before, &after)));
        for (loss_on, append_eos) in
            [(LossOn::All, true), (LossOn::Completion, true), (LossOn::Completion, false)]
        {
            spec.target.sft.loss_on = loss_on;
            spec.target.sft.append_eos = append_eos;
            let folder = folder(around(&before, &after));
            spec.target.model = folder.path().to_string_lossy().into_owned();
            let target = target(&spec);
            for (prompt, completion) in pairs {
                let pair = Example::PromptCompletion { prompt: prompt.into(), completion: completion.into() };
                let [pair, text] = target
                    .encode(&[pair, Example::Text([prompt, completion].concat())])
                    .unwrap()
                    .try_into()
                    .unwrap();
                assert_eq!(pair.tokens, text.tokens, "{before:?} {after:?} {prompt:?}");
                let ends = pair.tokens.iter().filter(|&&token| token == EOS).count();
                assert_eq!(
                    ends,
                    after.len() + usize::from(append_eos),
                    "{before:?} {after:?} {:?}",
                    pair.tokens
                );
                if loss_on == LossOn::All {
                    assert_eq!(pair.scored, text.scored);
                }
            }
            // a token that covers the boundary belongs to the completion
            let pair = Example::PromptCompletion { prompt: "the sma".into(), completion: "ll dog".into() };
            let pair = target.encode(&[pair]).unwrap().remove(0);
            let scored: Vec<u32> = pair
                .tokens
                .iter()
                .zip(&pair.scored)
                .filter(|(_, scored)| **scored)
                .map(|(&token, _)| token)
                .collect();
            if loss_on == LossOn::Completion {
                let text = target.model.tokenizer.decode(&scored).unwrap();
                assert_eq!(text, " small dog", "{before:?} {after:?} {scored:?}");
            }
        }
    }
}

/// `loss_on` tells a completion from its prompt, and a text has none.
#[test]
fn all_of_a_text_is_scored() {
    let folder = folder(|_, _| ());
    let mut spec = spec(&folder);
    let encoded = |spec: &Spec| target(spec).encode(&[Example::Text("the small dog".into())]).unwrap();
    let all = encoded(&spec);
    spec.target.sft.loss_on = LossOn::Completion;
    assert_eq!(encoded(&spec), all);
    assert_eq!(all[0].scored_len(), all[0].tokens.len() - 1);
}

#[test]
fn a_text_that_ends_with_eos_is_not_ended_again() {
    let folder = folder(|_, _| ());
    let target = target(&spec(&folder));
    let texts = ["a dog", "a dog</s>", "a dog</s> "].map(|text| Example::Text(text.into()));
    let encoded = target.encode(&texts).unwrap();
    assert_eq!(encoded[0], encoded[1]);
    assert_eq!(encoded[2].tokens.iter().filter(|&&token| token == EOS).count(), 2);
}

#[test]
fn a_generator_goes_on_from_its_prompt() {
    for (before, after) in [(vec!["<s>"], vec!["</s>"]), (vec![], vec!["</s>"]), (vec!["<s>"], vec![])] {
        let folder = folder(around(&before, &after));
        let spec = spec(&folder);
        let generator =
            Local::load(spec.generator().unwrap().local().unwrap().clone(), &[Device::flex()], None).unwrap();
        let writer = Writer::load(&spec, &[Device::flex()]).unwrap();
        for prompt in writer.training.iter().chain(&writer.validation) {
            let tokens = prompt.tokens.as_ref().unwrap();
            assert!(!tokens.contains(&EOS), "{prompt:?}");
            assert_eq!(tokens.first() == Some(&BOS), !before.is_empty(), "{prompt:?}");
            assert_eq!(generator.model.tokenizer.decode(tokens).unwrap(), prompt.text);
        }
    }
}

/// A token more than the model has rows: of no account until a text has it.
#[test]
fn a_tokenizer_may_be_wider_than_its_model() {
    let folder = folder(|tokenizer, _| {
        tokenizer["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": 96, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    });
    let spec = spec(&folder);
    let target = target(&spec);
    assert_eq!(target.encode(&[Example::Text("the dog".into())]).unwrap().len(), 1);
    let error = target.encode(&[Example::Text("the [PAD] dog".into())]).unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    for part in ["`[PAD]`", "id 96", "96 tokens", "97", "resize_token_embeddings"] {
        assert!(text.contains(part), "{text}");
    }
    let writer = Writer::load(&spec, &[Device::flex()]).unwrap();
    assert_eq!(writer.generate(Format::Text, 6, 0, &|| false).unwrap().len(), 6);
}

/// Rows of the model that the tokenizer has no token for are not drawn.
#[test]
fn a_tokenizer_may_be_narrower_than_its_model() {
    let folder = folder(|tokenizer, _| {
        let model = &mut tokenizer["model"];
        model["vocab"].as_object_mut().unwrap().retain(|_, id| id.as_u64().unwrap() < 60);
        model["merges"].as_array_mut().unwrap().truncate(4);
    });
    let spec = spec(&folder);
    let generator =
        Local::load(spec.generator().unwrap().local().unwrap().clone(), &[Device::flex()], None).unwrap();
    assert_eq!(generator.model.tokenizer.vocab_size(), 60);
    // all but the first 60 tokens would be drawn more often than not
    let prompts: Vec<_> = ["the small dog", "a mouse", "is on the"]
        .iter()
        .cycle()
        .take(60)
        .map(|text| generator.prompt((*text).into()).unwrap())
        .collect();
    let drawn = generator.draw(&prompts, Choice::Random { seed: 0, draw: 0 }, &|| false).unwrap();
    assert!(drawn.iter().flat_map(|one| one.tokens.as_ref().unwrap()).all(|&token| token < 60));
}
