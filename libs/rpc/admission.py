"""Limits on the work under way: a request beyond them is refused before any work is done."""

from collections.abc import Iterator
from contextlib import contextmanager

from tally.contract.errors import Overloaded

_RETRY_AFTER_S = 0.2


class Admission:
    """Bounds the bytes of the requests under way, from before they are parsed until they are answered.

    So it bounds the memory that they take, and how long one may wait behind the others: a queue that takes longer than
    callers have is nothing but work for callers who have gone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0
        """under way now"""

    def check_room(self) -> None:
        """Raises Overloaded when nothing more can be admitted, whatever its size."""
        if self.bytes >= self._max_bytes:
            raise _overloaded()

    def enter(self, size: int) -> None:
        """Admit a request of this size until `leave`; a single request is always admitted. Raises Overloaded."""
        if self.bytes and self.bytes + size > self._max_bytes:
            raise _overloaded()
        self.bytes += size

    def leave(self, size: int) -> None:
        self.bytes -= size

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """`enter` and `leave`."""
        self.enter(size)
        try:
            yield
        finally:
            self.leave(size)


def _overloaded() -> Overloaded:
    return Overloaded(
        "too many events are under way; send the same request again later",
        retry_after_s=_RETRY_AFTER_S,
        nothing_done=True,
    )
