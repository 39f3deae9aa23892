//! What is written is read back with the types, the order and the bytes that the layout promises.

use std::fs::{self, File};
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use dpg_spec::Format;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::bloom_filter::Sbbf;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use sha2::{Digest, Sha256};

use super::{ROW_GROUP_ROWS, write_split, write_split_in};
use crate::{Columns, Config, Error, Example, Row, Split, WrittenBy, message, read_examples};

fn example(format: Format, index: u64) -> Example {
    match format {
        Format::Text => Example::Text(format!("example {index} ñ 漢")),
        Format::PromptCompletion => Example::PromptCompletion {
            prompt: format!("prompt {}", index / 4),
            completion: format!("\"{index}\"\n"),
        },
        Format::Messages => {
            let turns = (0..=index % 3).map(|turn| message("user", &format!("{index}.{turn}")));
            Example::Messages(turns.collect::<Vec<_>>().into())
        }
    }
}

fn rows(format: Format, count: u64) -> Vec<Row> {
    (0..count)
        .map(|index| Row {
            example: example(format, index),
            reward: 1e-9 * (index as f64 - 3.0),
            group_id: index / 4,
            step: 240,
            advantage: 0.5,
            logprob: Some(-3.25 - index as f64),
            n_tokens: Some(7 + index),
            arm: None,
            prompt: format!("prompt {}", index / 4),
            seed: u64::MAX - index,
        })
        .collect()
}

fn table(path: &Path) -> Vec<RecordBatch> {
    ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap())
        .unwrap()
        .build()
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn column_strings(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|value| value.unwrap().to_string()).collect()
}

fn columns(format: Format) -> Columns {
    match format {
        Format::Text => Columns::Text("text".into()),
        Format::PromptCompletion => {
            Columns::PromptCompletion { prompt: "prompt".into(), completion: "completion".into() }
        }
        Format::Messages => Columns::Messages("messages".into()),
    }
}

#[test]
fn every_format_comes_back_as_written() {
    for format in [Format::Text, Format::PromptCompletion, Format::Messages] {
        let folder = tempfile::tempdir().unwrap();
        let written = rows(format, 2_345);
        let shards = write_split(folder.path(), Split::Train, format, written.clone()).unwrap();
        let paths: Vec<_> = shards.iter().map(|shard| shard.path.as_str()).collect();
        assert_eq!(paths, ["data/train-00000-of-00001.parquet", "rewards/train-00000-of-00001.parquet"]);
        for shard in &shards {
            let bytes = fs::read(folder.path().join(&shard.path)).unwrap();
            assert_eq!((shard.size, shard.rows), (bytes.len() as u64, 2_345));
            assert_eq!(shard.sha256, hex::encode(Sha256::digest(bytes)));
        }

        let data = folder.path().join(&shards[0].path);
        assert_eq!(Columns::detect(&data).unwrap(), columns(format));
        let read = read_examples(&data, &columns(format), None).unwrap();
        assert!(read.iter().eq(written.iter().map(|row| &row.example)));

        let mut index = 0;
        let record = table(&folder.path().join(&shards[1].path));
        for (data, record) in table(&data).into_iter().zip(record) {
            let ids = column_strings(&data, "example_id");
            assert_eq!(ids, column_strings(&record, "example_id"));
            assert!(ids.iter().all(|id| id.len() == 32));
            let hashes = column_strings(&record, "content_sha256");
            let prompts = column_strings(&record, "prompt");
            let integers = |name| record.column_by_name(name).unwrap().as_primitive::<Int64Type>();
            let floats = |batch: &RecordBatch, name| {
                batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone()
            };
            let seeds = record.column_by_name("seed").unwrap().as_primitive::<UInt64Type>();
            for place in 0..data.num_rows() {
                let row = &written[index];
                assert_eq!(floats(&data, "reward").value(place), row.reward);
                assert_eq!(floats(&record, "reward").value(place), row.reward);
                assert_eq!(floats(&record, "advantage").value(place), row.advantage);
                assert_eq!(Some(floats(&record, "logprob").value(place)), row.logprob);
                assert_eq!(integers("group_id").value(place), row.group_id as i64);
                assert_eq!(integers("step").value(place), row.step as i64);
                assert_eq!(Some(integers("n_tokens").value(place) as u64), row.n_tokens);
                assert_eq!(seeds.value(place), row.seed);
                assert_eq!(prompts[place], row.prompt);
                assert_eq!(hashes[place], row.example.content_sha256());
                index += 1;
            }
        }
        assert_eq!(index, written.len());
    }
}

#[test]
fn ids_are_unique_and_bytes_repeat() {
    let same_text = |index: u64| Row {
        example: Example::Text("same".into()),
        ..rows(Format::Text, 50)[index as usize].clone()
    };
    let write = || {
        let folder = tempfile::tempdir().unwrap();
        let train = write_split(folder.path(), Split::Train, Format::Text, (0..50).map(same_text)).unwrap();
        let kept =
            write_split(folder.path(), Split::Validation, Format::Text, (0..50).map(same_text)).unwrap();
        let mut ids = Vec::new();
        for shard in [&train[0], &kept[0]] {
            ids.extend(column_strings(&table(&folder.path().join(&shard.path))[0], "example_id"));
        }
        (train, kept, ids)
    };
    let (first, second) = (write(), write());
    assert_eq!(first, second);
    let mut ids = first.2;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[test]
fn shards_share_a_schema_and_stay_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let written = rows(Format::Text, 3_500);
    let shards = write_split_in(folder.path(), Split::Train, Format::Text, written, 1).unwrap();
    let (data, record) = shards.split_at(4);
    assert_eq!(data[3].path, "data/train-00003-of-00004.parquet");
    assert_eq!(record[3].path, "rewards/train-00003-of-00004.parquet");
    let rows: Vec<_> = shards.iter().map(|shard| shard.rows).collect();
    assert_eq!(rows, [1000, 1000, 1000, 500, 1000, 1000, 1000, 500]);
    for config in [data, record] {
        let schemas: Vec<_> =
            config.iter().map(|shard| table(&folder.path().join(&shard.path))[0].schema()).collect();
        assert!(schemas.iter().all(|schema| schema == &schemas[0]));
        assert!(schemas[0].fields().iter().all(|field| !field.is_nullable()));
    }
    let left: Vec<_> = fs::read_dir(folder.path().join("data")).unwrap().collect();
    assert_eq!(left.len(), 4);
}

#[test]
fn files_are_laid_out_as_promised() {
    let folder = tempfile::tempdir().unwrap();
    let count = ROW_GROUP_ROWS as u64 + 1;
    let shards = write_split(folder.path(), Split::Train, Format::Text, rows(Format::Text, count)).unwrap();
    let path = folder.path().join(&shards[0].path);
    let options = ReadOptionsBuilder::new()
        .with_reader_properties(ReaderProperties::builder().set_read_bloom_filter(true).build())
        .build();
    let reader = SerializedFileReader::new_with_options(File::open(&path).unwrap(), options).unwrap();
    let metadata = reader.metadata();
    assert_eq!(metadata.num_row_groups(), 2);
    let group = metadata.row_group(0);
    assert_eq!(group.num_rows(), ROW_GROUP_ROWS as i64);
    assert!(group.columns().iter().all(|column| matches!(column.compression(), Compression::ZSTD(_))));
    assert!(group.column(1).bloom_filter_offset().is_some());
    // Column 0 is text, 2 the reward: only the reward's pages have statistics.
    assert!(group.column(0).column_index_offset().is_none());
    assert!(group.column(2).column_index_offset().is_some());

    let id = &column_strings(&table(&path)[0], "example_id")[17];
    let group = reader.get_row_group(0).unwrap();
    let filter: &Sbbf = group.get_column_bloom_filter(1).unwrap();
    assert!(filter.check(&id.as_str()));
    assert!(!(0..20).all(|other| filter.check(&format!("absent {other}").as_str())));
}

#[test]
fn rewards_that_say_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |rows: Vec<Row>| write_split(folder.path(), Split::Train, Format::Text, rows);
    let with = |change: fn(&mut Row)| {
        let mut rows = rows(Format::Text, 1_200);
        change(&mut rows[1_100]);
        write(rows).unwrap_err().to_string()
    };
    assert!(with(|row| row.reward = f64::NAN).starts_with("`reward` of row 1101 of split `train` is `NaN`"));
    assert!(with(|row| row.logprob = Some(f64::NEG_INFINITY)).starts_with("`logprob` of row 1101"));
    assert!(with(|row| row.advantage = f64::INFINITY).starts_with("`advantage` of row 1101"));
    assert!(with(|row| row.example = example(Format::Messages, 1)).contains("format is `Text`"));

    let mut equal = rows(Format::Text, 5);
    for row in &mut equal {
        row.reward = 0.25;
    }
    let error = write(equal.clone()).unwrap_err();
    assert!(matches!(error, Error::EqualRewards { rows: 5, reward: 0.25, .. }), "{error}");
    assert!(write(equal[..1].to_vec()).is_ok(), "one reward has nothing to differ from");
    assert!(matches!(write(Vec::new()), Err(Error::NoRows(Split::Train))));
}

#[test]
fn columns_avoid_names_that_trainers_give_meaning() {
    let reserved = [
        "input_ids",
        "labels",
        "completion_mask",
        "assistant_masks",
        "seq_lengths",
        "label",
        "chosen",
        "rejected",
        "conversations",
        "image",
        "images",
        "tools",
        "chat_template_kwargs",
    ];
    for format in [Format::Text, Format::PromptCompletion, Format::Messages] {
        for config in Config::ALL {
            let schema = config.schema(format, WrittenBy::Teacher);
            assert!(schema.fields().iter().all(|field| !reserved.contains(&field.name().as_str())));
            assert_eq!(schema.field_with_name("reward").unwrap().data_type(), &DataType::Float64);
        }
    }
}

#[test]
fn of_a_teachers_rows_stands_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let taught = |mut row: Row| {
        row.logprob = None;
        row.n_tokens = row.n_tokens.filter(|tokens| tokens % 2 == 0);
        row.arm = Some(format!("arm {}", row.group_id));
        row
    };
    let written: Vec<_> = rows(Format::Text, 6).into_iter().map(taught).collect();
    let shards = write_split(folder.path(), Split::Train, Format::Text, written.clone()).unwrap();
    let record = table(&folder.path().join(&shards[1].path)).remove(0);
    assert_eq!(record.schema().as_ref(), &Config::Rewards.schema(Format::Text, WrittenBy::Teacher));
    assert_eq!(record.column_by_name("logprob").unwrap().null_count(), 6);
    let tokens = record.column_by_name("n_tokens").unwrap().as_primitive::<Int64Type>();
    let tokens: Vec<_> = tokens.iter().map(|tokens| tokens.map(|tokens| tokens as u64)).collect();
    assert_eq!(tokens, written.iter().map(|row| row.n_tokens).collect::<Vec<_>>());
    let arms = column_strings(&record, "arm");
    assert_eq!(arms, ["arm 0", "arm 0", "arm 0", "arm 0", "arm 1", "arm 1"]);
    // what a model wrote is known of each row
    let mut mixed = rows(Format::Text, 6);
    mixed[3].logprob = None;
    assert!(write_split(folder.path(), Split::Train, Format::Text, mixed).is_err());
}
