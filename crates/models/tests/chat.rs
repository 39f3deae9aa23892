//! Chat templates against transformers' renderings of them.

use std::{collections::HashMap, fs, path::PathBuf};

use dpg_models::{ChatTemplate, Conversation, Error, Rendered, Tokenizer};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

type Turn = Map<String, Value>;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// A template in a folder of its own.
fn template(source: &str) -> Result<ChatTemplate, Error> {
    let folder = TempDir::new().unwrap();
    let config = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    ChatTemplate::load(folder.path())
}

fn turns(turns: &[(&str, &str)]) -> Vec<Turn> {
    let turn = |&(role, content): &(&str, &str)| json!({ "role": role, "content": content });
    turns.iter().map(|said| turn(said).as_object().unwrap().clone()).collect()
}

fn conversation() -> Vec<Turn> {
    turns(&[
        ("system", "be brief"),
        ("user", " what? "),
        ("assistant", "that"),
        ("user", "no"),
        ("assistant", "then this"),
    ])
}

fn of(turns: &[Turn]) -> Conversation<'_> {
    Conversation { turns, ..Conversation::default() }
}

/// A template and one conversation as transformers renders it; no text where it raises an error.
#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    messages: Vec<Turn>,
    generation_prompt: bool,
    text: Option<String>,
}

#[test]
fn renders_as_transformers() {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(golden("chat.json")).unwrap()).unwrap();
    assert!(cases.len() > 8);
    for case in cases {
        let rendered = template(&case.template)
            .and_then(|template| template.render(&of(&case.messages), case.generation_prompt));
        match (rendered, case.text) {
            (Ok(text), Some(expected)) => assert_eq!(text, expected, "{}", case.name),
            (Err(_), None) => {}
            (rendered, expected) => panic!("{}: {rendered:?} instead of {expected:?}", case.name),
        }
    }
}

/// Conversations under templates like the public ones, see make_chat_golden.py.
#[derive(Deserialize)]
struct Golden {
    templates: HashMap<String, String>,
    conversations: HashMap<String, Given>,
    cases: Vec<Rendering>,
}

#[derive(Deserialize)]
struct Given {
    messages: Vec<Turn>,
    tools: Option<Vec<Value>>,
    variables: Option<Turn>,
}

/// What transformers makes of a conversation; nothing where it raises an error.
#[derive(Deserialize)]
struct Rendering {
    name: String,
    kind: String,
    text: Option<String>,
    begun: Option<String>,
    ids: Option<Vec<u32>>,
    assistant: Option<Vec<u8>>,
}

#[test]
fn conversations_are_what_transformers_makes_of_them() {
    let golden_file = fs::read(golden("conversations.json")).unwrap();
    let Golden { templates, conversations, cases } = serde_json::from_slice(&golden_file).unwrap();
    let tokenizer = Tokenizer::load(&golden("qwen2")).unwrap();
    let mut different = vec![];
    let mut marked = 0;
    for case in &cases {
        let template = template(&templates[&case.name]).unwrap();
        let Given { messages, tools, variables } = &conversations[&case.kind];
        let given = Conversation { turns: messages, tools: tools.as_deref(), variables: variables.as_ref() };
        for (begun, expected) in [(false, &case.text), (true, &case.begun)] {
            let rendered = template.render(&given, begun);
            if rendered.as_ref().ok() != expected.as_ref() {
                different.push(format!("{} / {}:\n{rendered:?}\n{expected:?}", case.name, case.kind));
            }
        }
        if let (Some(ids), Some(assistant)) = (&case.ids, &case.assistant) {
            let Rendered { text, assistant: ranges } = template.render_turns(&given).unwrap();
            let (found, mask) = tokenizer.encode_marked(&text, &ranges).unwrap();
            let mask: Vec<u8> = mask.into_iter().map(u8::from).collect();
            if (&found, &mask) != (ids, assistant) {
                different.push(format!("{} / {}: other tokens or marks", case.name, case.kind));
            }
            marked += usize::from(assistant.contains(&1));
        }
    }
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), cases.len(), different.join("\n"));
    assert!(marked > 10, "only {marked} cases have an assistant's token");
}

#[test]
fn a_block_that_is_cut_is_refused_and_one_in_a_macro_is_found() {
    let said = turns(&[("user", "q"), ("assistant", " a ")]);
    let block = "{% macro say(m) %}[{% generation %}{{ m.content }}{% endgeneration %}]{% endmacro %}";
    let template_of = |use_of_it: &str| {
        template(&format!("{block}{{% for m in messages %}}{use_of_it}{{% endfor %}}")).unwrap()
    };
    let found = template_of("{{ say(m) }}").render_turns(&of(&said)).unwrap();
    assert_eq!(found, Rendered { text: "[q][ a ]".into(), assistant: vec![1..2, 4..7] });
    let error = template_of("{{ say(m) | length }}").render_turns(&of(&said)).unwrap_err();
    assert!(matches!(error, Error::ChatGeneration { .. }), "{error}");
    // a text that has the marks' characters is not mistaken for a block
    let odd = turns(&[("assistant", "\u{FDD0}a\u{FDD1}")]);
    assert_eq!(template_of("{{ say(m) }}").render(&of(&odd), false).unwrap(), "[\u{FDD0}a\u{FDD1}]");
    let error = template_of("{{ say(m) }}").render_turns(&of(&odd)).unwrap_err();
    assert!(matches!(error, Error::ChatGeneration { .. }), "{error}");
}

#[test]
fn finds_the_assistants_turns() {
    let template = ChatTemplate::load(&golden("qwen2")).unwrap();
    let Rendered { text, assistant } = template.render_turns(&of(&conversation())).unwrap();
    assert_eq!(text, template.render(&of(&conversation()), false).unwrap());
    let turns: Vec<&str> = assistant.into_iter().map(|range| &text[range]).collect();
    assert_eq!(turns, ["that<|im_end|>\n", "then this<|im_end|>\n"]);
    assert_eq!(template.render_turns(&of(&[])).ok(), None, "the template wants a first message");
}

#[test]
fn a_template_that_rewrites_earlier_turns_has_no_turns() {
    // thoughts are shown in the last turn only, as reasoning models do it
    let template = template(
        "{% for m in messages %}<{{ m.role }}>{% if loop.last and m.role == 'assistant' %}<think>{% endif %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    )
    .unwrap();
    let all = conversation();
    let Rendered { text, assistant } = template.render_turns(&of(&all[..3])).unwrap();
    assert_eq!(&text[assistant[0].clone()], "<think>that");
    let error = template.render_turns(&of(&all)).unwrap_err();
    assert!(matches!(error, Error::ChatTurn { turn: 3, .. }), "{error}");
}

#[test]
fn the_day_is_fixed_and_a_refusal_says_why() {
    let day = template("{{ strftime_now('%d %b %Y') }}").unwrap();
    assert_eq!(day.render(&of(&[]), false).unwrap(), "26 Jul 2024");
    assert!(template("{{ strftime_now('%!') }}").unwrap().render(&of(&[]), false).is_err());

    let error = template("{{ raise_exception('roles must alternate') }}")
        .unwrap()
        .render(&of(&[]), false)
        .unwrap_err();
    assert!(format!("{error} {:?}", std::error::Error::source(&error)).contains("roles must alternate"));
    let error = template("{% for %}").unwrap_err();
    assert!(error.to_string().contains("chat_template.jinja"), "{error}");
}

#[test]
fn templates_of_older_folders_are_found() {
    let folder = TempDir::new().unwrap();
    let put = |config: serde_json::Value| {
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        ChatTemplate::load(folder.path()).and_then(|template| template.render(&of(&[]), false))
    };
    assert_eq!(put(json!({ "chat_template": "one" })).unwrap(), "one");
    let named =
        [json!({ "name": "tool_use", "template": "other" }), json!({ "name": "default", "template": "two" })];
    assert_eq!(put(json!({ "chat_template": named })).unwrap(), "two");
    let tools = [json!({ "name": "f" })];
    let with_tools = |folder: &TempDir| {
        let given = Conversation { tools: Some(&tools), ..Conversation::default() };
        ChatTemplate::load(folder.path()).unwrap().render(&given, false).unwrap()
    };
    assert_eq!(with_tools(&folder), "other");
    let error = put(json!({ "chat_template": named[..1] })).unwrap_err();
    assert!(error.to_string().contains("default"), "{error}");
    let error = put(json!({ "chat_template": null })).unwrap_err();
    assert!(matches!(error, Error::MissingFile { .. }), "{error}");

    // files stand before the configuration
    let more = folder.path().join("additional_chat_templates");
    fs::create_dir(&more).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), "three").unwrap();
    fs::write(more.join("tool_use.jinja"), "four").unwrap();
    assert_eq!(put(json!({ "chat_template": named })).unwrap(), "three");
    assert_eq!(with_tools(&folder), "four");
}
