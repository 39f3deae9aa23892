"""What can go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from .records import Job


class Error(Exception):
    """Any error of this package."""


class Unreachable(Error):
    """The daemon did not answer, or the connection broke. The same call may succeed later."""


class Refused(Error):
    """The daemon refused a call: a problem document of RFC 9457."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.status: int = problem.get("status", 0)
        """The HTTP status."""
        self.code: str = problem.get("type", "").rpartition(":")[2]
        """What kind of problem it is, as in `not-found`; deploy/problems.md lists them."""
        self.detail: str = problem.get("detail", "")
        """What is wrong with this call."""
        self.hint: str = problem.get("hint", "")
        """What to do about it."""
        self.faults: list[dict[str, Any]] = list(problem.get("errors", []))
        """Each thing that is wrong with a spec: `path`, `message`, and `line` where it is known."""
        lines = [self.detail]
        for fault in self.faults:
            line = f"line {fault['line']}, " if fault.get("line") else ""
            lines.append(f"  {line}`{fault['path']}`: {fault['message']}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        super().__init__("\n".join(lines))


class JobError(Error):
    """A job ended otherwise than well."""

    def __init__(self, job: Job) -> None:
        self.job = job
        """The job as it ended."""
        why = f": {job.error}" if job.error else ""
        super().__init__(f"job {job.id} of `{job.name}` {_ENDS.get(job.state, job.state)}{why}")


_ENDS = {"failed": "failed", "cancelled": "was cancelled"}
