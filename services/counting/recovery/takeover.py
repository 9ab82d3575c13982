"""When a log is taken over: its beat has not changed for the takeover time."""

from collections.abc import Mapping


class Takeover:
    """Judges by its own monotonic clock, and by time during which Postgres was reached.

    A log is given credit for the time between two looks, but for no more than twice the time that there should be
    between them: a shard that was frozen, or cut off from Postgres, must not take the others for dead.
    """

    def __init__(self, takeover_seconds: float, look_seconds: float) -> None:
        self._takeover_seconds = takeover_seconds
        self._most_between_looks = 2 * look_seconds
        self._looked_at: float | None = None
        self._beats: dict[int, int] = {}
        self._silent_seconds: dict[int, float] = {}

    def look(self, beats: Mapping[int, int], now: float) -> list[int]:
        """Note the beats that were read at `now`, monotonic seconds; the logs that are to be taken over."""
        between = 0.0 if self._looked_at is None else min(now - self._looked_at, self._most_between_looks)
        self._looked_at = now
        self._silent_seconds = {
            log_id: self._silent_seconds.get(log_id, 0.0) + between
            if self._beats.get(log_id) == beat
            else 0.0
            for log_id, beat in beats.items()
        }
        self._beats = dict(beats)
        return [log_id for log_id, silent in self._silent_seconds.items() if silent >= self._takeover_seconds]
