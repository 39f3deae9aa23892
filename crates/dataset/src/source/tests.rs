//! Files as users have them, and the messages they get for those that cannot be read.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, LargeStringArray, StringArray, StringViewArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use super::{Columns, read_examples, read_texts, read_within};
use crate::{Error, Example, Message};

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

fn message(path: &std::path::Path, columns: &Columns) -> String {
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

    let path = files.text(r#"{"messages": [{"role": "user", "content": "q", "name": "x"}]}"#);
    let expected = Example::Messages(vec![Message { role: "user".into(), content: "q".into() }]);
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
    let error = message(&path, &text());
    assert!(error.ends_with(", row 2, has no column `text`; it has `body`, `id`"), "{error}");

    let path = files.text("{\"body\": \"b\"}");
    assert!(matches!(Columns::detect(&path), Err(Error::NoKnownColumns { .. })));

    let path = files.parquet(vec![("body", Arc::new(StringArray::from(vec!["a"])))]);
    let error = message(&path, &text());
    assert!(error.ends_with("has no column `text`; it has `body`"), "{error}");
    assert!(matches!(Columns::detect(&path), Err(Error::NoKnownColumns { .. })));
}

#[test]
fn wrong_values_are_named_with_their_place() {
    let files = Files::new();
    let path = files.text("{\"text\": \"a\"}\n{\"text\": 3}\n");
    assert!(message(&path, &text()).contains("row 2, is a number; expected a string"));

    let path = files.text("{\"text\": \"a\"}\n[1]\n");
    assert!(message(&path, &text()).starts_with("line 2 of "));
    let path = files.text("{\"text\": \"a\"\n");
    assert!(message(&path, &text()).starts_with("line 1 of "));

    let messages = Columns::Messages("messages".into());
    let path = files.text(r#"{"messages": [{"role": "user", "content": null}]}"#);
    assert!(message(&path, &messages).contains("row 1, is a list with a turn that lacks"));

    let path = files.parquet(vec![("text", Arc::new(StringArray::from(vec![Some("a"), None])))]);
    assert!(message(&path, &text()).contains("row 2, is null; expected a string"));
    let path = files.parquet(vec![("text", Arc::new(Int64Array::from(vec![1])))]);
    assert!(message(&path, &text()).contains("is `Int64`; expected strings"));
    assert!(message(&path, &Columns::Messages("text".into())).contains("is `Int64`; expected a list"));
}

#[test]
fn absent_empty_and_cut_files_are_refused() {
    let files = Files::new();
    let absent = files.0.path().join("data.absent");
    assert!(message(&absent, &text()).contains("cannot read"));
    assert!(matches!(read_examples(&files.text(""), &text(), None), Err(Error::Empty(_))));
    assert!(matches!(Columns::detect(&files.text("\n")), Err(Error::Empty(_))));
    let path = files.parquet(vec![("text", Arc::new(StringArray::from(Vec::<&str>::new())))]);
    assert!(matches!(read_examples(&path, &text(), None), Err(Error::Empty(_))));

    let path = files.parquet(vec![("text", Arc::new(StringArray::from(vec!["a"])))]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    assert!(message(&path, &text()).starts_with("cannot read Parquet file"));
}

/// A text that a dictionary repeats in every row: a small file that unpacks to a large one.
#[test]
fn a_small_file_that_unpacks_to_a_large_one_is_refused() {
    let files = Files::new();
    let long = "a".repeat(1 << 16);
    let column: DictionaryArray<Int32Type> = std::iter::repeat_n(long.as_str(), 1000).collect();
    let path = files.parquet(vec![("text", Arc::new(column) as ArrayRef)]);
    assert!(fs::metadata(&path).unwrap().len() < 1 << 17, "the file is small");
    let most = 10 << 16;
    assert_eq!(read_within(most, &path, &text(), Some(10)).unwrap().len(), 10);
    let error = read_within(most, &path, &text(), None).unwrap_err().to_string();
    assert!(error.contains("data.parquet") && error.contains("655360 bytes"), "{error}");
    // said by the file itself, before anything is unpacked
    let error = read_within(1 << 10, &path, &text(), Some(1)).unwrap_err().to_string();
    assert!(error.contains("a column of a row group"), "{error}");
    let path = files.text(&format!("{{\"text\": \"{long}\"}}\n").repeat(11));
    let error = read_within(most, &path, &text(), None).unwrap_err().to_string();
    assert!(error.contains("its texts"), "{error}");
}

#[test]
fn what_is_no_file_and_lines_without_end_are_refused() {
    let files = Files::new();
    let fifo = files.0.path().join("data.fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.as_path(), std::path::Path::new("/dev/zero"), files.0.path()] {
        let error = read_examples(path, &text(), None).unwrap_err().to_string();
        assert!(error.contains("a regular file is expected"), "{error}");
    }
    // all of it a hole
    let path = files.text("{\"text\": \"a\"}\n");
    File::options().append(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(read_texts(&path, "text", Some(1)).unwrap(), ["a"]);
    let error = message(&path, &text());
    assert!(error.contains("a line has more than"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Bytes changed, cut off and added anywhere: an error or some rows, and never a panic or a hang.
    #[test]
    fn a_damaged_parquet_file_is_an_error_or_rows(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let files = Files::new();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["one", "two", "three", "two"]));
        let path = files.parquet(vec![("text", texts)]);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        let _ = read_examples(&path, &text(), None);
        let _ = Columns::detect(&path);
    }

    #[test]
    fn damaged_jsonl_is_an_error_or_rows(bytes in prop::collection::vec(any::<u8>(), 0..200), twice in any::<bool>()) {
        let files = Files::new();
        let path = files.text("{\"text\": \"a\"}\n");
        let rest = if twice { bytes.repeat(2) } else { bytes };
        let all = [fs::read(&path).unwrap(), rest].concat();
        fs::write(&path, all).unwrap();
        let _ = read_examples(&path, &text(), None);
        let _ = read_examples(&path, &Columns::Messages("text".into()), None);
    }
}
