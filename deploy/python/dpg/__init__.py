"""dpg from Python: a daemon's client, rewards of rows, and the helper for metrics of one's own.

    import dpg

    client = dpg.Client("http://127.0.0.1:7117", token)
    job = client.wait(client.submit(spec))
    rows = client.dataset(job.name)                 # a datasets.Dataset; `client.table` gives an Arrow table

    scored = dpg.score(spec, [{"text": "..."}])     # each row with its `reward`, computed on this machine

`dpg.metric` makes a Python function the metric of a spec. The program itself comes with this package: it is the command
`dpg`, and `dpg.program()` says where it is.
"""

from .client import Client
from .errors import Error, JobError, Refused, Unreachable
from .program import program
from .records import Event, File, Job, Schedule, Version
from .scoring import score

__all__ = [
    "Client",
    "Error",
    "Event",
    "File",
    "Job",
    "JobError",
    "Refused",
    "Schedule",
    "Unreachable",
    "Version",
    "program",
    "score",
]
