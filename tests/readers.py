#!/usr/bin/env python3
"""Checks that a fetched dataset is read by the tools that people have.

    readers.py FOLDER

Needs pyarrow, duckdb, polars and datasets. Exits with an error at the first thing that is wrong.
"""

import hashlib
import json
import logging
import math
import pathlib
import sys
import tempfile

import datasets
import duckdb
import polars
import pyarrow.parquet

RECORD = [
    "example_id", "group_id", "step", "reward", "advantage", "logprob", "n_tokens", "prompt", "seed", "content_sha256",
]
SFT = [["text"], ["prompt", "completion"], ["messages"]]


def content_sha256(row, columns):
    if columns == ["text"]:
        content = row["text"]
    else:
        value = row["messages"] if columns == ["messages"] else {name: row[name] for name in columns}
        content = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def check_split(folder, split, cache):
    data_files, record_files = f"{folder}/data/{split}-*.parquet", f"{folder}/rewards/{split}-*.parquet"

    # pyarrow: one schema in all shards, nothing nullable, the columns of one format.
    tables = {}
    for config, pattern in [("default", data_files), ("rewards", record_files)]:
        shards = sorted(pathlib.Path(pattern).parent.glob(pathlib.Path(pattern).name))
        assert shards, f"no files match {pattern}"
        schemas = [pyarrow.parquet.read_schema(shard) for shard in shards]
        assert all(schema.equals(schemas[0]) for schema in schemas), f"{pattern}: schemas differ"
        assert not any(field.nullable for field in schemas[0]), f"{pattern}: nullable columns"
        tables[config] = pyarrow.concat_tables([pyarrow.parquet.read_table(shard) for shard in shards])
    data, record = tables["default"], tables["rewards"]
    columns = data.column_names[:-2]
    assert columns in SFT and data.column_names[-2:] == ["example_id", "reward"], data.column_names
    assert record.column_names == RECORD, record.column_names
    assert str(data.schema.field("reward").type) == str(record.schema.field("reward").type) == "double"

    # Row-aligned, ids unique, rewards finite and not constant, hashes of the content right.
    rows, scores = data.to_pylist(), record.to_pylist()
    assert len(rows) == len(scores) > 0
    assert len({row["example_id"] for row in rows}) == len(rows)
    for row, score in zip(rows, scores):
        assert (row["example_id"], row["reward"]) == (score["example_id"], score["reward"])
        assert all(math.isfinite(score[name]) for name in ["reward", "advantage", "logprob"])
        assert content_sha256(row, columns) == score["content_sha256"], row
    assert len(rows) == 1 or len({row["reward"] for row in rows}) > 1, "rewards are constant"

    # DuckDB, with the join and a look-up that may use the Bloom filter.
    joined = duckdb.sql(f"SELECT count(*) FROM '{data_files}' d JOIN '{record_files}' r USING (example_id) "
                        "WHERE d.reward = r.reward").fetchall()[0][0]
    assert joined == len(rows)
    wanted = rows[len(rows) // 2]["example_id"]
    found = duckdb.execute(f"SELECT reward FROM '{data_files}' WHERE example_id = ?", [wanted]).fetchall()
    assert found == [(rows[len(rows) // 2]["reward"],)]

    # Polars, eager and lazy.
    frame = polars.read_parquet(data_files)
    assert frame.to_dicts() == rows
    best = polars.scan_parquet(record_files).filter(polars.col("reward") > 0).collect()
    assert best.height == sum(row["reward"] > 0 for row in rows)

    # Hugging Face datasets, from the folder and its card alone.
    loaded = datasets.load_dataset(folder, split=split, cache_dir=cache)
    assert loaded.column_names == data.column_names and loaded.to_list() == rows
    loaded = datasets.load_dataset(folder, "rewards", split=split, cache_dir=cache)
    assert loaded.column_names == RECORD and loaded.to_list() == scores
    return len(rows)


class Warnings(logging.Handler):
    """Collects what `datasets` has to say about the card."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def main():
    folder = sys.argv[1].rstrip("/")
    warnings = Warnings()
    logging.getLogger("datasets").addHandler(warnings)
    with tempfile.TemporaryDirectory() as cache:
        assert datasets.get_dataset_config_names(folder) == ["default", "rewards"]
        splits = datasets.get_dataset_split_names(folder)
        assert splits[0] == "train", splits
        info = datasets.load_dataset_builder(folder, cache_dir=cache).info
        card = {name: split.num_examples for name, split in info.splits.items()}
        for split in splits:
            rows = check_split(folder, split, cache)
            assert card[split] == rows, card
            print(f"{split}: {rows} rows, read by pyarrow, DuckDB, Polars and datasets")
        assert not warnings.messages, warnings.messages

    manifest = json.loads(pathlib.Path(folder, "manifest.json").read_text())
    for file in manifest["files"]:
        assert hashlib.sha256(pathlib.Path(folder, file["path"]).read_bytes()).hexdigest() == file["sha256"], file


if __name__ == "__main__":
    main()
