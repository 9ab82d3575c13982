"""What a signal or the garbage collector does: something else in the middle of a call, at every place of it."""

import gc
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupt(Exception):
    """Raised by a signal."""


def interrupt() -> None:
    """What such a signal does."""
    raise Interrupt


class At:
    """Within this block, `act` once before the line with this number that is run in the calls of this thread.

    Lines are counted from 0, through all functions that are written in Python; `was_reached` says whether there were
    so many. The real collector waits meanwhile: the lines of its callbacks are not of the call.
    """

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self._left = number
        self._act = act
        self.was_reached = False

    def __enter__(self) -> Self:
        gc.disable()
        sys.settrace(self._trace)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.settrace(None)
        gc.enable()

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename == __file__:
            return None
        if event == "line" and not self.was_reached:
            if self._left == 0:
                self.was_reached = True
                self._act()
            self._left -= 1
        return self._trace
