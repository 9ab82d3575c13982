"""The deadline of the current call, for the code that serves it.

A contextvar carries it. A task that a handler starts inherits it, so background tasks are started when a
service opens and never by a handler.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar

from tally.contract.errors import DeadlineExceeded

# event loops round to milliseconds, and gRPC's timers have a clock of their own
_TIMER_SLACK_S = 0.01

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_deadline(seconds: float | None, now: Callable[[], float] = time.monotonic) -> None:
    """Say that the current task has `seconds` left; None for as long as it likes."""
    _deadline.set(None if seconds is None else now() + seconds)


def remaining_seconds(now: Callable[[], float] = time.monotonic) -> float | None:
    """The remaining time until the deadline, negative when it has passed; None without one."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - now()


def has_passed(now: Callable[[], float] = time.monotonic) -> bool:
    """Whether the deadline is over, or so near that a timer set for it may have fired."""
    remaining = remaining_seconds(now)
    return remaining is not None and remaining <= _TIMER_SLACK_S


def call_timeout(cap_s: float, shave_s: float, now: Callable[[], float] = time.monotonic) -> float:
    """The timeout of an outgoing call: the remaining time, less `shave_s` to answer in, and at most `cap_s`.

    Raises DeadlineExceeded when nothing would be left.
    """
    remaining = remaining_seconds(now)
    if remaining is None:
        return cap_s
    if remaining <= shave_s:
        raise DeadlineExceeded("the deadline is too near for another call")
    return min(cap_s, remaining - shave_s)
