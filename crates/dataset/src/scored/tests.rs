//! What goes in comes out, with the columns that are added.

use std::fs;

use serde_json::json;

use super::*;

/// Rewards of as many tokens as the row's number, one of each.
fn tokens(row: usize) -> Vec<f64> {
    (0..row).map(|token| token as f64 + 0.25).collect()
}

/// Writes JSON lines or the Parquet made of them as `from`, scores them to `to`, and reads them as JSON.
fn through(rows: &[Value], from: &str, to: &str) -> (Vec<Value>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join(from), folder.path().join(to));
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    if Layout::of(&from) == Layout::Jsonl {
        fs::write(&from, lines).unwrap();
    } else {
        let objects: Vec<_> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        let (schema, columns) = table(&objects).unwrap();
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&from).unwrap(), schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert!(!is_scored(&from));
    }
    let ids: Vec<_> = (0..rows.len()).map(|row| format!("id {row}")).collect();
    let rewards: Vec<_> = (0..rows.len()).map(|row| row as f64 - 0.5).collect();
    let mut file = File::create(&to).unwrap();
    let lists = [("token_rewards", (0..rows.len()).map(tokens).collect())];
    let renamed = write_scored(&from, (&mut file, &to), Layout::of(&to), &ids, &rewards, &lists).unwrap();
    let read = if Layout::of(&to) == Layout::Jsonl {
        fs::read_to_string(&to).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    } else {
        assert!(is_scored(&to));
        let batches = reader(&to, File::open(&to).unwrap()).unwrap().build().unwrap();
        batches.flat_map(|batch| json_rows(&batch.unwrap()).unwrap()).map(Value::Object).collect()
    };
    (read, renamed)
}

#[test]
fn every_column_is_carried_through() {
    let rows = [
        json!({
            "text": "a ñ 漢", "n": 1, "large": u64::MAX, "x": 1, "ok": true, "none": null, "tags": ["p", "q"],
            "messages": [{ "role": "user", "content": "hi" }, { "role": "tool", "content": "4", "name": "sum" }],
            "meta": { "source": { "line": 7 }, "empty": [] }, "mixed": 1, "plain": 1
        }),
        json!({
            "text": "b", "n": -2, "large": 0, "x": 2.5, "ok": null, "none": null, "tags": [],
            "messages": [], "meta": null, "mixed": ["two", 2], "plain": "two"
        }),
    ];
    let mut expected: Vec<Value> = rows.to_vec();
    for (row, value) in expected.iter_mut().enumerate() {
        value["example_id"] = json!(format!("id {row}"));
        value["reward"] = json!(row as f64 - 0.5);
        value["token_rewards"] = json!(tokens(row));
    }
    assert_eq!(through(&rows, "a.jsonl", "b.jsonl"), (expected.clone(), vec![]));
    // in columns an integer among fractions is one, and plain values of several kinds are text; what has
    // several shapes stays what it is
    expected[0]["x"] = json!(1.0);
    expected[0]["plain"] = json!("1");
    for (from, to) in [("a.jsonl", "b.parquet"), ("a.parquet", "b.jsonl"), ("a.parquet", "b.parquet")] {
        assert_eq!(through(&rows, from, to), (expected.clone(), vec![]), "{from} to {to}");
    }
}

#[test]
fn columns_of_the_same_names_are_renamed() {
    let rows = [json!({ "reward": "old", "text": "a" }), json!({ "reward": "older", "text": "b" })];
    for (from, to) in [("a.jsonl", "b.parquet"), ("a.parquet", "b.jsonl")] {
        let (read, renamed) = through(&rows, from, to);
        assert_eq!(renamed, ["reward"]);
        assert_eq!(read[1]["input_reward"], "older");
        assert_eq!(read[1]["reward"], 0.5);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("twice.jsonl");
    fs::write(&file, "{\"text\": \"a\", \"reward\": 1, \"input_reward\": 2}\n").unwrap();
    let ids = ["id".to_owned()];
    let clash = write_scored(&file, (&mut Vec::new(), &file), Layout::Jsonl, &ids, &[0.0], &[]).unwrap_err();
    assert!(clash.to_string().contains("`input_reward`"), "{clash}");
    fs::write(&file, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let short = write_scored(&file, (&mut Vec::new(), &file), Layout::Parquet, &ids, &[0.0], &[]);
    assert!(matches!(short, Err(Error::Unaligned { examples: 2, rewards: 1 })));
}
