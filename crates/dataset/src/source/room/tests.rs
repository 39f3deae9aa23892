//! Files that hold or say too much.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, StringArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use super::Room;
use crate::source::{Columns, read_examples, read_texts, read_within};

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

/// What is said of a file, and why.
fn refusal(path: &Path) -> String {
    let error = read_examples(path, &text(), None).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
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
    assert_eq!(read_within(Room::within(most, &path), &text(), Some(10)).unwrap().len(), 10);
    let error = read_within(Room::within(most, &path), &text(), None).unwrap_err().to_string();
    assert!(error.contains("data.parquet") && error.contains("655360 bytes"), "{error}");
    // said by the file itself, before anything is unpacked
    let error = read_within(Room::within(1 << 10, &path), &text(), Some(1)).unwrap_err().to_string();
    assert!(error.contains("a column of a row group"), "{error}");
    let path = files.text(&format!("{{\"text\": \"{long}\"}}\n").repeat(11));
    let error = read_within(Room::within(most, &path), &text(), None).unwrap_err().to_string();
    assert!(error.contains("the text"), "{error}");
}

#[test]
fn what_is_no_file_and_lines_without_end_are_refused() {
    let files = Files::new();
    let fifo = files.0.path().join("data.fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.as_path(), Path::new("/dev/zero"), files.0.path()] {
        let error = refusal(path);
        assert!(error.contains("a regular file is expected"), "{error}");
    }
    // all of it a hole
    let path = files.text("{\"text\": \"a\"}\n");
    File::options().append(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(read_texts(&path, "text", Some(1)).unwrap(), ["a"]);
    let error = refusal(&path);
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
