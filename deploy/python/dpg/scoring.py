"""Rewards of rows, computed on this machine by `dpg score`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, TypeVar, Union, overload

from .errors import Error
from .program import program

Rows = TypeVar("Rows")
Spec = Union[str, Mapping[str, Any], "os.PathLike[str]"]
"""A spec: its text as TOML or JSON, a dictionary, or the path of a file."""


@overload
def score(spec: Spec, rows: Sequence[Mapping[str, Any]], **options: Any) -> list[dict[str, Any]]: ...
@overload
def score(spec: Spec, rows: Rows, **options: Any) -> Rows: ...


def score(  # type: ignore[misc]  # the options that the signatures above leave to this one
    spec: Spec,
    rows: Any,
    *,
    per_token: bool = False,
    per_query: bool = False,
    device: Optional[str] = None,
    dtype: Optional[str] = None,
    programs: Mapping[str, str] = {},
) -> Any:
    """Gives each row its reward: the metagradient of the spec's metric with respect to the row's weight.

    `rows` are dictionaries, a `datasets.Dataset` or an Arrow table, with `text`, `prompt` and `completion`, or
    `messages`; the answer is of the same kind, with a column `reward`. `per_token` adds `token_rewards`, `per_query`
    adds `query_rewards`. `device` and `dtype` are those of `dpg score`. `programs` are the commands of programs that the
    spec's metric names. Paths in a spec that is not a file are relative to this process's folder.
    """
    with tempfile.TemporaryDirectory(prefix="dpg-") as folder:
        kind = _kind(rows)
        data, out = (Path(folder, f"{name}.{kind}") for name in ("rows", "scored"))
        _write(rows, data)
        path, text = _source(spec)
        command = [str(program()), "score", path, "--data", str(data), "--out", str(out)]
        command += ["--per-token"] * per_token + ["--per-query"] * per_query
        command += [f"--device={device}"] if device else []
        command += [f"--dtype={dtype}"] if dtype else []
        command += [f"--program={name}={line}" for name, line in programs.items()]
        _run(command, text)
        return _read(rows, out)


def _source(spec: Spec) -> tuple[str, str]:
    """How a spec is named on a command line, and what standard input says."""
    if isinstance(spec, str):
        return "-", spec
    if isinstance(spec, Mapping):
        return "-", json.dumps(spec)
    return os.fspath(spec), ""


def _run(command: list[str], text: str) -> None:
    """Runs a program and shows what it says as it says it, in notebooks as well."""
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin and running.stderr
        try:
            running.stdin.write(text)
            running.stdin.close()
        except BrokenPipeError:
            pass  # it says why
        for line in running.stderr:
            last.append(line)
            print(line, end="", file=sys.stderr)
    if running.returncode != 0:
        said = "".join(last).rpartition("error: ")[2].strip()
        raise Error(said or f"`{command[0]} {command[1]}` ended with {running.returncode}")


def _kind(rows: Any) -> str:
    return "parquet" if hasattr(rows, "to_parquet") or hasattr(rows, "schema") else "jsonl"


def _write(rows: Any, path: Path) -> None:
    if hasattr(rows, "to_parquet"):
        rows.to_parquet(path)
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(rows, path)
    else:
        with open(path, "w", encoding="utf-8") as file:
            for row in rows:
                print(json.dumps(row), file=file)


def _read(rows: Any, path: Path) -> Any:
    if path.suffix == ".jsonl":
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    import pyarrow.parquet

    # read whole: the file goes with its folder
    table = pyarrow.parquet.read_table(path, memory_map=False)
    if hasattr(rows, "to_parquet"):
        import datasets

        return datasets.Dataset(table)
    return table
