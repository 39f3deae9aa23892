//! Files as users have them, and the messages they get for those that cannot be read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, LargeStringArray, StringArray, StringViewArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use dpg_dataset::{Columns, Conversation, Error, Example, message, read_examples, read_texts};
use serde_json::{Value, json};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn text(&self, content: &str) -> PathBuf {
        let path = self.0.path().join("data.jsonl");
        fs::write(&path, content).unwrap();
        path
    }

    fn parquet(&self, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = self.0.path().join("data.parquet");
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let snappy = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(snappy)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }
}

fn text() -> Columns {
    Columns::Text("text".into())
}

fn refusal(path: &Path, columns: &Columns) -> String {
    let error = read_examples(path, columns, None).unwrap_err().to_string();
    assert!(error.contains("data."), "names no file: {error}");
    error
}

#[test]
fn jsonl_of_every_shape() {
    let files = Files::new();
    let path = files.text("{\"text\": \"a\\nb\", \"id\": 1}\n\n  \n{\"id\": 2, \"text\": \"\"}");
    assert_eq!(read_texts(&path, "text", None).unwrap(), ["a\nb", ""]);
    assert_eq!(read_texts(&path, "text", Some(1)).unwrap(), ["a\nb"]);
    assert_eq!(Columns::detect(&path).unwrap(), text());

    let path = files.text("{\"prompt\": \"p\", \"completion\": \"c\", \"text\": \"t\"}\r\n");
    let expected = Example::PromptCompletion { prompt: "p".into(), completion: "c".into() };
    assert_eq!(read_examples(&path, &Columns::detect(&path).unwrap(), None).unwrap(), [expected]);

    let path = files.text(r#"{"messages": [{"role": "user", "content": "q"}]}"#);
    let expected = Example::Messages(vec![message("user", "q")].into());
    assert_eq!(read_examples(&path, &Columns::detect(&path).unwrap(), None).unwrap(), [expected]);
}

#[test]
fn parquet_of_every_text_type() {
    let files = Files::new();
    let arrays: [ArrayRef; 4] = [
        Arc::new(StringArray::from(vec!["a", "b"])),
        Arc::new(LargeStringArray::from(vec!["a", "b"])),
        Arc::new(StringViewArray::from(vec!["a", "b"])),
        Arc::new(DictionaryArray::<Int32Type>::from_iter(["a", "b"])),
    ];
    for array in arrays {
        let path = files.parquet(vec![("id", Arc::new(Int64Array::from(vec![1, 2]))), ("text", array)]);
        assert_eq!(read_texts(&path, "text", None).unwrap(), ["a", "b"]);
        assert_eq!(read_texts(&path, "text", Some(1)).unwrap(), ["a"]);
    }
}

#[test]
fn absent_columns_are_named_with_what_exists() {
    let files = Files::new();
    let path = files.text("{\"text\": \"a\"}\n{\"body\": \"b\", \"id\": 2}\n");
    let error = refusal(&path, &text());
    assert!(error.starts_with("line 2 of `"), "{error}");
    assert!(error.ends_with("` has no column `text`; it has `body`, `id`"), "{error}");

    let path = files.text("{\"body\": \"b\"}");
    assert!(matches!(Columns::detect(&path), Err(Error::NoKnownColumns { .. })));

    let path = files.parquet(vec![("body", Arc::new(StringArray::from(vec!["a"])))]);
    let error = refusal(&path, &text());
    assert!(error.ends_with("has no column `text`; it has `body`"), "{error}");
    assert!(matches!(Columns::detect(&path), Err(Error::NoKnownColumns { .. })));
}

#[test]
fn wrong_values_are_named_with_their_place() {
    let files = Files::new();
    let path = files.text("{\"text\": \"a\"}\n{\"text\": 3}\n");
    assert!(refusal(&path, &text()).contains("`text` in line 2 of `"));
    assert!(refusal(&path, &text()).ends_with("is a number; expected a string"));

    let path = files.text("{\"text\": \"a\"}\n[1]\n");
    assert!(refusal(&path, &text()).starts_with("line 2 of "));
    let path = files.text("{\"text\": \"a\"\n");
    assert!(refusal(&path, &text()).starts_with("line 1 of "));

    let messages = Columns::Messages("messages".into());
    let path = files.text(r#"{"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}"#);
    assert!(refusal(&path, &messages).contains("is a list whose turn 2 has no `role`; expected"));

    let path = files.parquet(vec![("text", Arc::new(StringArray::from(vec![Some("a"), None])))]);
    assert!(refusal(&path, &text()).contains("` in row 2 of `"));
    assert!(refusal(&path, &text()).ends_with("is null; expected a string"));
    let path = files.parquet(vec![("text", Arc::new(Int64Array::from(vec![1])))]);
    assert!(refusal(&path, &text()).contains("is a number; expected a string"));
    assert!(
        refusal(&path, &Columns::Messages("text".into())).contains("is a number; expected a list of turns")
    );
}

#[test]
fn absent_empty_and_cut_files_are_refused() {
    let files = Files::new();
    let absent = files.0.path().join("data.absent");
    assert!(refusal(&absent, &text()).contains("cannot read"));
    assert!(matches!(read_examples(&files.text(""), &text(), None), Err(Error::Empty(_))));
    assert!(matches!(Columns::detect(&files.text("\n")), Err(Error::Empty(_))));
    let path = files.parquet(vec![("text", Arc::new(StringArray::from(Vec::<&str>::new())))]);
    assert!(matches!(read_examples(&path, &text(), None), Err(Error::Empty(_))));

    let path = files.parquet(vec![("text", Arc::new(StringArray::from(vec!["a"])))]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    assert!(refusal(&path, &text()).starts_with("cannot read Parquet file"));
}

fn read(path: &Path) -> Vec<Example> {
    read_examples(path, &Columns::detect(path).unwrap(), None).unwrap()
}

#[test]
fn text_is_read_as_windows_old_macs_and_python_write_it() {
    let files = Files::new();
    let expected = [Example::Text("a".into()), Example::Text("ñ".into())];
    for content in [
        "\u{FEFF}{\"text\": \"a\"}\n{\"text\": \"ñ\"}\n",
        "\u{FEFF}{\"text\": \"a\"}\r\n\r\n{\"text\": \"ñ\"}\r\n",
        "{\"text\": \"a\"}\r{\"text\": \"ñ\"}\r",
        "{\"x\": NaN, \"y\": [-Infinity, {\"z\": 1e999}], \"text\": \"a\"}\n{\"text\": \"ñ\", \"x\": 123456789012345678901234567890}",
        "{\"half\": \"\\ud83d ]}\\\" \", \"text\": \"a\"}\n{\"twice\": 1, \"twice\": 2, \"text\": \"ñ\"}",
        "[{\"text\": \"a\"}, {\"text\": \"ñ\", \"x\": NaN}]",
        " \u{20}\n[\r\n {\n  \"text\": \"a\"\n },\n {\"text\": \"ñ\"}\n]\n",
    ] {
        assert_eq!(read(&files.text(content)), expected, "{content}");
    }
}

#[test]
fn rows_are_counted_from_1_with_the_file() {
    let files = Files::new();
    let place = |content: &str, place: &str| {
        let path = files.text(content);
        let error = refusal(&path, &text());
        let named = format!("{place} of `{}`", path.display());
        assert!(error.contains(&named), "{error} does not say {named}");
        error
    };
    place("{\"text\": \"a\"}\r\n\r\n{\"text\": 1}\r\n", "line 3");
    place("{\"text\": \"a\"}\r{\"text\": 1}", "line 2");
    place("[{\"text\": \"a\"},\n\n {\"text\": 1}]", "row 2");
    assert!(place("{\"text\": NaN}", "line 1").contains("is not JSON (expected"));
    assert!(place("{\"text\": \"\\ud83d\"}", "line 1").contains("is not JSON ("));
    assert!(place("{\"text\": \"a\", \"text\": \"b\"}", "line 1").contains("stands there twice"));
    assert!(place("{\"text\": \"a\"} {}", "line 1").contains("then comes an object"));
    assert!(place("{\"text\": \"a\" \"b\"}", "line 1").contains("expected `}` and found a string"));
    assert!(place("{\"text\": \"a", "line 1").contains("a string does not end"));
    assert!(place("text,label", "line 1").contains("it is `text,label`"));

    let path = files.text("[{\"text\": \"a\"}, {\"text\": \"b\"");
    assert!(
        refusal(&path, &text())
            .contains("begins as a JSON array and is not one (a list or object does not end)")
    );
    let path = files.0.path().join("data.latin1");
    fs::write(&path, b"{\"text\": \"ca\xF1a\"}").unwrap();
    assert!(refusal(&path, &text()).contains("`text` in line 1 of `"));
    assert!(refusal(&path, &text()).contains("is not UTF-8 text; if it is Latin-1"));
}

#[test]
fn other_files_are_named_with_the_way_out() {
    let files = Files::new();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let cases: [(&[u8], &str); 8] = [
        (&utf16("\u{FEFF}{\"text\": \"a\"}"), "is UTF-16 text; write it as UTF-8 with `iconv"),
        (&utf16("{\"text\": \"a\"}"), "is UTF-16 text"),
        (b"\x1F\x8B\x08\0", "is gzip-compressed"),
        (b"\x28\xB5\x2F\xFD", "is zstd-compressed"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<!DOCTYPE html>", "is an HTML or XML page"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"ARROW1\0\0", "is an Arrow file"),
    ];
    for (bytes, reason) in cases {
        let path = files.0.path().join("data.parquet");
        fs::write(&path, bytes).unwrap();
        let error = refusal(&path, &text());
        assert!(error.contains(reason), "{error}");
        assert!(matches!(Columns::detect(&path), Err(Error::OtherFile { .. })));
    }
}

#[test]
fn columns_are_those_that_trainers_choose() {
    let files = Files::new();
    let detect = |row: &str| Columns::detect(&files.text(row));
    let pair = Columns::PromptCompletion { prompt: "prompt".into(), completion: "completion".into() };
    assert_eq!(detect(r#"{"text": "", "messages": [], "prompt": "", "completion": ""}"#).unwrap(), pair);
    assert_eq!(
        detect(r#"{"text": "", "messages": [], "prompt": ""}"#).unwrap(),
        Columns::Messages("messages".into())
    );
    assert_eq!(detect("{\"text\": \"\"}\n{\"prompt\": \"\", \"completion\": \"\"}").unwrap(), pair);
    for column in ["input_ids", "labels", "images", "assistant_masks"] {
        let error = detect(&format!("{{\"text\": \"a\", \"{column}\": []}}")).unwrap_err();
        assert!(
            error.to_string().contains(&format!("column `{column}`, which SFT trainers take for")),
            "{error}"
        );
    }
}

/// A conversation of a tool call, as the values of a JSON row.
fn called() -> Value {
    json!({
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "Lima?" }] },
            { "role": "assistant", "content": null, "thinking": "look", "tool_calls": [
                { "id": "a", "function": { "name": "weather", "arguments": { "city": "Lima", "days": 1.0 } } }
            ] },
            { "role": "tool", "name": "weather", "content": "18" },
        ],
        "tools": [{ "name": "weather", "parameters": {} }],
        "chat_template_kwargs": { "enable_thinking": false },
    })
}

#[test]
fn conversations_are_kept_whole() {
    let files = Files::new();
    let row = called();
    let turns = |value: &Value| -> Vec<_> {
        value.as_array().unwrap().iter().map(|turn| turn.as_object().unwrap().clone()).collect()
    };
    let expected = Conversation {
        turns: turns(&row["messages"]),
        prompt: None,
        tools: Some(row["tools"].as_array().unwrap().clone()),
        variables: row["chat_template_kwargs"].as_object().unwrap().clone(),
    };
    assert_eq!(read(&files.text(&row.to_string())), [Example::Messages(expected.clone())]);

    // schemas as text, which is how they fit a column of any tools
    let mut as_text = row.clone();
    as_text["tools"] = row["tools"].to_string().into();
    assert_eq!(read(&files.text(&as_text.to_string())), [Example::Messages(expected.clone())]);

    let apart = json!({ "prompt": row["messages"].as_array().unwrap()[..1], "completion": row["messages"].as_array().unwrap()[1..] });
    let expected = Conversation { turns: expected.turns, prompt: Some(1), ..Conversation::default() };
    assert_eq!(read(&files.text(&apart.to_string())), [Example::Messages(expected)]);

    let shared = r#"{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho", "weight": 1}]}"#;
    let answer = json!({ "weight": 1, "role": "gpt", "content": "ho" }).as_object().unwrap().clone();
    assert_eq!(read(&files.text(shared)), [Example::Messages(vec![message("human", "hi"), answer].into())]);
}

#[test]
fn what_a_conversation_cannot_hold_is_refused_by_name() {
    let files = Files::new();
    let refused = |row: Value, reason: &str| {
        let path = files.text(&row.to_string());
        let error = refusal(&path, &Columns::detect(&path).unwrap());
        assert!(error.contains(reason), "{error}");
        assert!(error.contains(" in line 1 of `"), "{error}");
    };
    let turn = |turn: Value| json!({ "messages": [{ "role": "user", "content": "a" }, turn] });
    refused(
        turn(json!({ "role": "user", "content": [{ "type": "image_url" }] })),
        "turn 2 has a part of type `image_url`",
    );
    refused(
        turn(json!({ "role": "user", "content": [{ "type": "input_audio" }] })),
        "turn 2 has a part of type `input_audio`",
    );
    refused(turn(json!({ "role": "user", "content": "a", "images": ["x.png"] })), "turn 2 has `images`");
    refused(turn(json!({ "role": 1, "content": "a" })), "turn 2 has a number as its `role`");
    refused(turn(json!("a")), "turn 2 is a string");
    refused(json!({ "messages": [] }), "is an empty list; expected at least one turn");
    refused(json!({ "messages": null }), "is null; expected a list of turns");
    refused(json!({ "prompt": [], "completion": [{ "role": "assistant" }] }), "`prompt` in line 1");
    refused(
        json!({ "prompt": "a", "completion": [{ "role": "assistant" }] }),
        "expected a string, as the prompt is",
    );
    refused(
        json!({ "prompt": [{ "role": "user" }], "completion": "a" }),
        "expected a list of turns, as the prompt is",
    );
    let with = |name: &str, value: Value| {
        let mut row = called();
        row[name] = value;
        row
    };
    refused(with("tools", json!("[")), "column `tools` in line 1");
    refused(with("tools", json!(["weather"])), "is a list with a string");
    refused(with("tools", json!({})), "is an object; expected a list of JSON schemas");
    refused(with("chat_template_kwargs", json!("{}")), "expected an object of the template's variables");
    refused(
        with("chat_template_kwargs", json!({ "chat_template": "" })),
        "with `chat_template`, which the trainer sets",
    );

    let path = files.text(r#"{"messages": [{"role": "user", "n": 12345678901234567890123}]}"#);
    assert!(refusal(&path, &Columns::Messages("messages".into())).contains("more than 64 bits"));
}
