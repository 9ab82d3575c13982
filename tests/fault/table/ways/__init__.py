"""How a process is made to find another world than the others: see sitecustomize.py beside this."""

import os
from pathlib import Path


def variables_of(
    *,
    clock_ahead_seconds: float | None = None,
    disk: tuple[Path, int] | None = None,
    answers_garbage: bool = False,
) -> dict[str, str]:
    """The variables that do it.

    `disk`: a folder, and the bytes of the disk that the process is to see there. `answers_garbage`: to whoever sends
    it entries.
    """
    here = Path(__file__).parent
    root = here.parents[3]  # what answers garbage is in tests/
    path = [str(here), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"PYTHONPATH": os.pathsep.join(path)}
    if clock_ahead_seconds is not None:
        variables["FAULT_CLOCK_AHEAD_SECONDS"] = str(clock_ahead_seconds)
    if disk is not None:
        variables |= {"FAULT_DISK": str(disk[0]), "FAULT_DISK_BYTES": str(disk[1])}
    if answers_garbage:
        variables["FAULT_GARBAGE"] = "1"
    return variables
