"""Where the program `dpg` is."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from .errors import Error


def program() -> Path:
    """The program `dpg`: that of this Python's installation, or else the one on `PATH`."""
    user = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    folders = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent, Path(user)]
    for folder in folders:
        if (folder / "dpg").is_file():
            return folder / "dpg"
    found = shutil.which("dpg")
    if found is None:
        raise Error("the program `dpg` is neither beside this Python nor on `PATH`; install the wheel, or put it on `PATH`")
    return Path(found)
