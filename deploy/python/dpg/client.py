"""A daemon's client. It needs nothing but Python's own library, except where it gives data to `datasets` or pyarrow."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Optional, Union

from .errors import Error, JobError, Refused, Unreachable
from .records import Event, File, Job, Schedule, Version
from .scoring import Spec

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

_PATIENCE = 120.0
"""Seconds that a daemon may be away while a job is waited for."""


class Client:
    """A daemon, and the token to call it with."""

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, timeout: float = 60.0) -> None:
        """Without `url` and `token` they are those of `DPG_URL` and `DPG_TOKEN`. An answer takes `timeout` seconds at
        most."""
        self.url = (url or os.environ.get("DPG_URL") or "http://127.0.0.1:7117").rstrip("/")
        self._token = token or os.environ.get("DPG_TOKEN")
        self._timeout = timeout
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise Error(f"`{self.url}` is not a daemon's address; expected one as in `http://127.0.0.1:7117`")
        # a redirect would take the token elsewhere
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    # jobs

    def submit(self, spec: Spec, *, key: Optional[str] = None, priority: int = 0) -> Job:
        """Submits a spec. Of submissions with one `key`, those after the first get its job while that is live. Paths in
        the spec are the daemon's."""
        body = {"spec": _content(spec), "priority": priority}
        headers = {"idempotency-key": key} if key else {}
        return Job.read(self._json("POST", "jobs", body=body, headers=headers)["job"])

    def job(self, job: Union[Job, str]) -> Job:
        """A job as it stands now, by its id, or the newest of a dataset by its name."""
        return Job.read(self._json("GET", "jobs", _id(job)))

    def jobs(self, *, name: Optional[str] = None, state: Optional[str] = None, limit: int = 50) -> list[Job]:
        """Jobs, newest first."""
        found: list[Job] = []
        query: dict[str, Any] = {"name": name, "state": state}
        while len(found) < limit:
            page = self._json("GET", "jobs", query={**query, "limit": min(limit - len(found), 500)})
            found += [Job.read(job) for job in page["jobs"]]
            query["cursor"] = page.get("next")
            if query["cursor"] is None:
                break
        return found

    def cancel(self, job: Union[Job, str]) -> Job:
        """Cancels a job. One that runs stops after its step."""
        return Job.read(self._json("POST", "jobs", _id(job), "cancel"))

    def retry(self, job: Union[Job, str]) -> Job:
        """Queues a failed or cancelled job again."""
        return Job.read(self._json("POST", "jobs", _id(job), "retry"))

    def events(self, job: Union[Job, str], *, after: int = 0) -> Iterator[Event]:
        """What happens to a job, from the event after number `after` until it ends. A connection that breaks is taken up
        again; nothing comes twice."""
        away = time.monotonic()
        while True:
            try:
                with self._open("GET", "jobs", _id(job), "logs", headers={"last-event-id": str(after)}) as stream:
                    for kind, data in _messages(stream):
                        away = time.monotonic()
                        if kind == "event":
                            event = Event.read(data)
                            after = event.seq
                            yield event
                        elif kind == "end":
                            return
            except (Unreachable, OSError, http.client.HTTPException) as error:
                if time.monotonic() - away > _PATIENCE:
                    raise Unreachable(f"the daemon at `{self.url}` is away: {error}") from error
            time.sleep(1.0)

    def wait(self, job: Union[Job, str], *, timeout: Optional[float] = None) -> Job:
        """Waits until a job has succeeded; `JobError` if it ends otherwise, `TimeoutError` after `timeout` seconds."""
        begun = away = time.monotonic()
        while True:
            try:
                found = self.job(job)
                away = time.monotonic()
                if found.state == "succeeded":
                    return found
                if found.has_ended:
                    raise JobError(found)
            except Unreachable:
                if time.monotonic() - away > _PATIENCE:
                    raise
            left = 1.0 if timeout is None else begun + timeout - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"job {_id(job)} has not ended after {timeout} seconds")
            time.sleep(min(1.0, left))

    # schedules

    def schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        return [Schedule.read(one) for one in self._json("GET", "schedules")["schedules"]]

    def schedule(self, name: str) -> Schedule:
        """A schedule."""
        return Schedule.read(self._json("GET", "schedules", name))

    def put_schedule(self, name: str, spec: Spec, cron: str, *, time_zone: str = "UTC", **options: Any) -> Schedule:
        """Makes a schedule or replaces the one of its name. `options` are `overlap`, `catchup`, `jitter_seconds` and
        `priority`; see `Schedule`."""
        body = {"cron": cron, "time_zone": time_zone, "spec": _content(spec), **options}
        return Schedule.read(self._json("PUT", "schedules", name, body=body))

    def pause_schedule(self, name: str) -> Schedule:
        """Stops a schedule until it is resumed."""
        return Schedule.read(self._json("POST", "schedules", name, "pause"))

    def resume_schedule(self, name: str) -> Schedule:
        """Lets a paused schedule go on."""
        return Schedule.read(self._json("POST", "schedules", name, "resume"))

    def run_schedule(self, name: str) -> Job:
        """Submits a schedule's job at once."""
        return Job.read(self._json("POST", "schedules", name, "run"))

    def delete_schedule(self, name: str) -> None:
        """Deletes a schedule. Its jobs are left alone."""
        self._open("DELETE", "schedules", name).close()

    # datasets

    def datasets(self) -> list[str]:
        """The names of all datasets."""
        return [dataset["name"] for dataset in self._json("GET", "datasets")["datasets"]]

    def versions(self, name: str) -> list[Version]:
        """The versions of a dataset, oldest first."""
        return [Version.read(version) for version in self._json("GET", "datasets", name)["versions"]]

    def version(self, name: str, version: Union[str, int] = "latest") -> Version:
        """A version: `latest`, a number as in `v3`, or a tag."""
        return Version.read(self._json("GET", "datasets", name, "versions", str(version)))

    def files(self, name: str, version: Union[str, int] = "latest") -> list[File]:
        """The files of a version."""
        found = self._json("GET", "datasets", name, "versions", str(version))["files"]
        return [File(file["path"], file["size"], file["sha256"]) for file in found]

    def fetch(
        self, name: str, version: Union[str, int] = "latest", folder: Union[str, os.PathLike[str], None] = None
    ) -> Path:
        """Copies a version to a folder, every hash checked, and gives the folder: `load_dataset`, DuckDB and Polars read
        it as it is. Without `folder` that is one in the user's cache, and what is there already is not fetched again."""
        found = self.version(name, version)
        into = _cache(found) if folder is None else Path(folder)
        # the manifest comes last, so a folder that has it is whole
        for file in sorted(self.files(name, found.number), key=lambda file: file.path == "manifest.json"):
            parts = PurePosixPath(file.path)
            if parts.is_absolute() or ".." in parts.parts:
                raise Error(f"{found} lists a file outside its folder: `{file.path}`")
            place = into.joinpath(*parts.parts)
            if not (place.is_file() and _sha256(place) == file.sha256):
                self._download(found, file, place)
        return into

    def dataset(
        self, name: str, version: Union[str, int] = "latest", *, split: str = "train", config: str = "default"
    ) -> Dataset:
        """A version as a `datasets.Dataset`. `config="rewards"` gives the record of its scoring, row by row."""
        from datasets import load_dataset

        return load_dataset(str(self.fetch(name, version)), config, split=split)

    def table(
        self, name: str, version: Union[str, int] = "latest", *, split: str = "train", config: str = "default"
    ) -> pyarrow.Table:
        """A version as an Arrow table; see `dataset`."""
        import pyarrow
        import pyarrow.parquet

        folder = self.fetch(name, version) / ("data" if config == "default" else config)
        shards = sorted(folder.glob(f"{split}-*.parquet"))
        if not shards:
            raise Error(f"`{name}` has no split `{split}` of `{config}`")
        return pyarrow.concat_tables([pyarrow.parquet.read_table(shard) for shard in shards])

    def _download(self, version: Version, file: File, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.{os.getpid()}.part")
        parts = ("datasets", version.dataset, "versions", f"v{version.number}", "files", *file.path.split("/"))
        digest = hashlib.sha256()
        try:
            with self._open("GET", *parts) as body, open(part, "wb") as copy:
                while chunk := body.read(1 << 20):
                    digest.update(chunk)
                    copy.write(chunk)
            if digest.hexdigest() != file.sha256:
                raise Unreachable(f"`{file.path}` of {version} arrived damaged; repeat")
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)

    # calls

    def _json(self, method: str, *parts: str, **options: Any) -> Any:
        with self._open(method, *parts, **options) as answer:
            try:
                return json.load(answer)
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"the daemon at `{self.url}` broke off: {error}") from error

    def _open(
        self,
        method: str,
        *parts: str,
        query: Mapping[str, Any] = {},
        body: Any = None,
        headers: Mapping[str, str] = {},
    ) -> Any:
        """The answer to a call of `/v1/` and `parts`."""
        url = "/".join([self.url, "v1", *(urllib.parse.quote(part, safe="") for part in parts)])
        given = {key: value for key, value in query.items() if value is not None}
        if given:
            url += "?" + urllib.parse.urlencode(given)
        request = urllib.request.Request(url, method=method, headers=dict(headers))
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        if self._token:
            request.add_unredirected_header("authorization", f"Bearer {self._token}")
        try:
            return self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise self._problem(error) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise Unreachable(f"cannot reach the daemon at `{self.url}`: {why}") from error

    def _problem(self, error: urllib.error.HTTPError) -> Error:
        if error.headers.get("content-type") == "application/problem+json":
            problem = json.load(error)
            refused = Refused(problem)
            # the daemon goes down or is overloaded: the same call may succeed later
            return Unreachable(str(refused)) if refused.status in (408, 429, 502, 503, 504) else refused
        return Error(
            f"`{self.url}` answered {error.code} with something that is not of this API; is it a dpg daemon?"
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _content(spec: Spec) -> Any:
    """A spec as the API takes it: text or an object."""
    if isinstance(spec, (str, Mapping)):
        return spec
    return Path(spec).read_text(encoding="utf-8")


def _id(job: Union[Job, str]) -> str:
    return job.id if isinstance(job, Job) else job


def _messages(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """The messages of a stream of server-sent events: kind and data."""
    kind, data = "", ""
    for raw in stream:
        line = raw.decode().rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            kind = value
        elif name == "data":
            data += value
        elif not line:
            if kind and data:
                yield kind, json.loads(data)
            kind, data = "", ""


def _cache(version: Version) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "dpg", "datasets", version.dataset, f"v{version.number}-{version.manifest_sha256[:16]}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
