"""What the Python package does against a daemon; tests/client.rs starts one, and says where in the environment."""

import pathlib

import datasets
import pyarrow

import dpg
from dpg.metric import serve

assert callable(serve)
client = dpg.Client()
spec = pathlib.Path("spec.toml")

# jobs
job = client.submit(spec, key="once")
assert (job.name, job.state, job.priority) == ("from-python", "queued", 0), job
assert client.submit(spec, key="once").id == job.id
kinds = [event.kind for event in client.events(job)]
assert kinds[0] == "submitted" and kinds[-1] == "succeeded" and "steps" in kinds, kinds
seen = list(client.events(job, after=3))
assert [event.seq for event in seen] == list(range(4, len(kinds) + 1)), seen
done = client.wait(job, timeout=60)
assert done.has_ended and done.result["dataset"] == "from-python@v1" and done.finished > done.created
assert [one.id for one in client.jobs(name="from-python")] == [job.id] == [one.id for one in client.jobs(state="succeeded")]
assert client.job("from-python").id == job.id

# datasets
assert client.datasets() == ["from-python"]
[version] = client.versions("from-python")
assert str(version) == "from-python@v1" and version.job == job.id and version.withdrawn is None
assert client.version("from-python", 1) == client.version("from-python", "v1") == version
rows = client.dataset("from-python")
assert isinstance(rows, datasets.Dataset) and len(rows) == version.rows, rows
table = client.table("from-python", "v1")
assert isinstance(table, pyarrow.Table) and table.to_pylist() == rows.to_list()
record = client.table("from-python", config="rewards")
assert record["reward"].to_pylist() == rows["reward"] and "prompt" in record.column_names
folder = client.fetch("from-python", "latest", "copy")
assert {file.path for file in client.files("from-python")} == {
    str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
}
# what was changed is fetched again
(folder / "README.md").write_text("changed")
assert "changed" != (client.fetch("from-python", folder="copy") / "README.md").read_text()

# schedules
schedule = client.put_schedule("nightly", spec, "0 2 * * *", time_zone="Europe/Berlin", overlap="queue")
assert (schedule.name, schedule.cron, schedule.overlap) == ("nightly", "0 2 * * *", "queue") and schedule.next
assert client.pause_schedule("nightly").next is None and client.resume_schedule("nightly").next
started = client.run_schedule("nightly")
assert started.schedule == schedule.id
client.cancel(started)
try:
    client.wait(started, timeout=120)
except dpg.JobError as error:
    assert error.job.state == "cancelled" and "was cancelled" in str(error), error
else:
    raise AssertionError("a cancelled job is waited for")
assert [one.name for one in client.schedules()] == ["nightly"]
client.delete_schedule("nightly")
assert client.schedules() == []

# what goes wrong says so
for wrong, error, part in [
    (lambda: client.submit("name = 'x'\nseeds = 1"), dpg.Refused, "seed"),
    (lambda: client.submit({"name": "x"}), dpg.Refused, "target"),
    (lambda: client.job("nobody"), dpg.Refused, "there is no job `nobody`"),
    (lambda: client.dataset("nothing"), dpg.Refused, "nothing"),
    (lambda: client.table("from-python", split="test"), dpg.Error, "no split `test`"),
    (lambda: dpg.Client(token="dpg_wrong").jobs(), dpg.Refused, "the token is"),
    (lambda: dpg.Client("http://127.0.0.1:1").jobs(), dpg.Unreachable, "cannot reach"),
    (lambda: dpg.Client("ftp://here"), dpg.Error, "is not a daemon's address"),
    (lambda: dpg.score("name = 1", [{"text": "x"}]), dpg.Error, "name"),
]:
    try:
        wrong()
    except error as found:
        assert type(found) is error and part in str(found), (part, found)
    else:
        raise AssertionError(f"nothing went wrong where `{part}` should")
assert "dpg_" not in repr(client)

# rewards
target = """
name = "score"
[target]
model = "embedded:letters-target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-3, eps_root = 1e-4 }
batch_size = 2
sequence_length = 32
[metric]
kind = "token_probability"
prompts = ["th"]
answers = ["z"]
"""
given = [{"text": text, "mark": mark} for mark, text in enumerate(["the moth", "thz thz", "a path", "cloth"])]
scored = dpg.score(target, given)
assert [row["mark"] for row in scored] == [0, 1, 2, 3] and all(isinstance(row["reward"], float) for row in scored)
assert max(scored, key=lambda row: row["reward"])["mark"] == 1, scored
of_table = dpg.score(target, pyarrow.Table.from_pylist(given), per_token=True)
assert isinstance(of_table, pyarrow.Table) and of_table["reward"].to_pylist() == [row["reward"] for row in scored]
assert all(len(tokens) > 1 for tokens in of_table["token_rewards"].to_pylist())
of_dataset = dpg.score(target, datasets.Dataset.from_list(given))
assert isinstance(of_dataset, datasets.Dataset) and of_dataset["reward"] == of_table["reward"].to_pylist()
print("all is as it should be")
