"""What a daemon tells of: jobs, events, schedules, versions."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Mapping, Optional, TypeVar

Record = TypeVar("Record", bound="_Record")


class _Record:
    """A record that is read from JSON. Fields that a newer daemon adds are passed over."""

    @classmethod
    def read(cls: type[Record], found: Mapping[str, Any]) -> Record:
        values = {}
        for field in fields(cls):  # type: ignore[arg-type]
            value = found.get(field.name)
            values[field.name] = _time(value) if value and "datetime" in str(field.type) else value
        return cls(**values)


def _time(text: str) -> datetime:
    # nanoseconds and `Z` are not for older Pythons
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00"))


@dataclass(frozen=True)
class Job(_Record):
    """A job."""

    id: str
    name: str
    """The dataset's name."""
    state: str
    """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
    priority: int
    attempts: int
    """Attempts started."""
    max_attempts: int
    created: datetime
    updated: datetime
    finished: Optional[datetime]
    progress: Optional[dict[str, Any]]
    """How far it is: `stage`, `step`, `steps`, `phi`, `eta_seconds`."""
    result: Optional[dict[str, Any]]
    """What it made: `dataset`, `version`, `rows`, `validation`."""
    error: Optional[str]
    """Why its last failed attempt failed."""
    schedule: Optional[str]
    """The id of the schedule that it comes from."""
    worker: Optional[str]
    """The worker that has it or had it last."""

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; only a retry brings it back."""
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Event(_Record):
    """Something that happened to a job."""

    seq: int
    """Counts from 1 within the job, without gaps."""
    at: datetime
    kind: str
    """`submitted`, `claimed`, `steps`, `validation`, `succeeded`, ..."""
    detail: dict[str, Any]


@dataclass(frozen=True)
class Schedule(_Record):
    """A spec that is submitted again and again."""

    id: str
    name: str
    cron: str
    time_zone: str
    overlap: str
    """What happens while an earlier job has not ended: `skip`, `queue` or `replace`."""
    catchup: str
    """What happens to times that passed while no daemon ran: `none`, `one` or `all`."""
    jitter_seconds: int
    priority: int
    paused: Optional[datetime]
    """When it was paused, if it is."""
    next: Optional[datetime]
    """When it is due next; None while it is paused."""


@dataclass(frozen=True)
class File:
    """A file of a version."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Version(_Record):
    """A version of a dataset; it never changes."""

    dataset: str
    number: int
    job: str
    rows: int
    """Rows of the split `train`."""
    size: int
    """Bytes of its Parquet files."""
    manifest_sha256: str
    published_at: datetime
    withdrawn: Optional[dict[str, Any]]
    """Why `latest` passes over it, if it does."""

    def __str__(self) -> str:
        return f"{self.dataset}@v{self.number}"
