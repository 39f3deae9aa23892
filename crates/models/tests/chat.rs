//! Chat templates against transformers' renderings of them.

use std::{fs, path::PathBuf};

use dpg_models::{ChatTemplate, Error, Message, Rendered};
use serde::Deserialize;
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// A template in a folder of its own.
fn template(source: &str) -> Result<ChatTemplate, Error> {
    let folder = TempDir::new().unwrap();
    let config = serde_json::json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    ChatTemplate::load(folder.path())
}

fn conversation() -> Vec<Message> {
    [
        ("system", "be brief"),
        ("user", " what? "),
        ("assistant", "that"),
        ("user", "no"),
        ("assistant", "then this"),
    ]
    .map(|(role, content)| Message::new(role, content))
    .into()
}

/// A template and one conversation as transformers renders it; no text where it raises an error.
#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    messages: Vec<Message>,
    generation_prompt: bool,
    text: Option<String>,
}

#[test]
fn renders_as_transformers() {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(golden("chat.json")).unwrap()).unwrap();
    assert!(cases.len() > 8);
    for case in cases {
        let rendered = template(&case.template)
            .and_then(|template| template.render(&case.messages, case.generation_prompt));
        match (rendered, case.text) {
            (Ok(text), Some(expected)) => assert_eq!(text, expected, "{}", case.name),
            (Err(_), None) => {}
            (rendered, expected) => panic!("{}: {rendered:?} instead of {expected:?}", case.name),
        }
    }
}

#[test]
fn finds_the_assistants_turns() {
    let template = ChatTemplate::load(&golden("qwen2")).unwrap();
    let Rendered { text, assistant } = template.render_turns(&conversation()).unwrap();
    assert_eq!(text, template.render(&conversation(), false).unwrap());
    let turns: Vec<&str> = assistant.into_iter().map(|range| &text[range]).collect();
    assert_eq!(turns, ["that<|im_end|>\n", "then this<|im_end|>\n"]);
    assert_eq!(template.render_turns(&[]).ok(), None, "the template wants a first message");
}

#[test]
fn a_template_that_rewrites_earlier_turns_has_no_turns() {
    // thoughts are shown in the last turn only, as reasoning models do it
    let template = template(
        "{% for m in messages %}<{{ m.role }}>{% if loop.last and m.role == 'assistant' %}<think>{% endif %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    )
    .unwrap();
    let all = conversation();
    let Rendered { text, assistant } = template.render_turns(&all[..3]).unwrap();
    assert_eq!(&text[assistant[0].clone()], "<think>that");
    let error = template.render_turns(&all).unwrap_err();
    assert!(matches!(error, Error::ChatTurn { turn: 2, .. }), "{error}");
}

#[test]
fn the_day_is_fixed_and_a_refusal_says_why() {
    let day = template("{{ strftime_now('%d %b %Y') }}").unwrap();
    assert_eq!(day.render(&[], false).unwrap(), "26 Jul 2024");
    assert!(template("{{ strftime_now('%!') }}").unwrap().render(&[], false).is_err());

    let error =
        template("{{ raise_exception('roles must alternate') }}").unwrap().render(&[], false).unwrap_err();
    assert!(format!("{error} {:?}", std::error::Error::source(&error)).contains("roles must alternate"));
    let error = template("{% for %}").unwrap_err();
    assert!(error.to_string().contains("chat_template.jinja"), "{error}");
}

#[test]
fn templates_of_older_folders_are_found() {
    let folder = TempDir::new().unwrap();
    let put = |config: serde_json::Value| {
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        ChatTemplate::load(folder.path()).and_then(|template| template.render(&[], false))
    };
    assert_eq!(put(serde_json::json!({ "chat_template": "one" })).unwrap(), "one");
    let named = [
        serde_json::json!({ "name": "tool_use", "template": "other" }),
        serde_json::json!({ "name": "default", "template": "two" }),
    ];
    assert_eq!(put(serde_json::json!({ "chat_template": named })).unwrap(), "two");
    let error = put(serde_json::json!({ "chat_template": named[..1] })).unwrap_err();
    assert!(error.to_string().contains("default"), "{error}");
    let error = put(serde_json::json!({ "chat_template": null })).unwrap_err();
    assert!(matches!(error, Error::MissingFile { .. }), "{error}");
}
