"""The runs that wait for a merge, of which reads have to visit each: told by the merger, made by flushes."""

from collections.abc import Callable

MOST_WAITING = 24
"""With these a read still visits about 50 runs: up to seven of each of four levels wait for others of their level."""


class WaitingRuns:
    """What flushes and the merger of a shard know of each other."""

    def __init__(self) -> None:
        self.count = 0
        """runs of all shards, as of the last look of the merger"""
        self.wake_merger: Callable[[], None] = _do_nothing

    @property
    def are_many(self) -> bool:
        """Whether merges lag, so that flushes should make fewer runs."""
        return self.count > MOST_WAITING


def _do_nothing() -> None:
    pass
