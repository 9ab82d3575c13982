"""Signals and standard streams of a process, before large modules are imported."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_STREAMS = 3


def prepare_streams() -> None:
    """Make standard input, output and error usable, whatever the caller has closed and however it encodes them.

    With a number below 3 free, the event loop would take it for a file of its own, and abort when it closes it. A
    character that the encoding of the output lacks is written as an escape.
    """
    for number in range(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(opened, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - no path; never closed
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # real streams, and no tests' own


def end_on_signals() -> None:
    """End at once at SIGINT or SIGTERM, until the event loop has handlers of its own: nothing is open yet.

    As process 1 of a container a signal without a handler would be ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(0)
