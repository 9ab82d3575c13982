"""Pure: decides from a shard's answers whether it is alive.

A shard is live from the first probe that it answers with SERVING. It stops being live

- at once, when it answers a probe with anything else: it drains. It still answers the calls under way;
- when several probes in a row have failed (two): it is silent: dead or frozen, which cannot be distinguished.

One failed probe is not enough. On a busy machine a healthy shard may be late by a second, and a connection that is
closed because of its age may fail a call. So only consecutive failures count, and every sign of life resets them: an
answered probe, or an answer to a call for entries, which a shard under load gives all the time. A failed probe that
was sent before the last sign of life is ignored, because probes may overtake each other. A probe that failed much later
than its timeout is ignored too: this process was frozen or had no CPU, not the shard.

Both kinds of error are safe, because the journal's key keeps counts exact. A shard that is given up too soon is live
again after its next answered probe; entries that were sent to another shard meanwhile were only slower.
"""

from enum import StrEnum

from libs.domain.clock import Clock

_OWN_LATENESS_S = 0.5


class Life(StrEnum):
    """The state of a shard."""

    UNHEARD = "not heard yet"
    LIVE = "live"
    DRAINING = "not serving"
    SILENT = "silent"


class Liveness:
    """The life of one shard, by the answers to its probes."""

    def __init__(self, clock: Clock, *, failures: int, timeout_s: float) -> None:
        self._clock = clock
        self._most_failures = failures
        self._timeout_s = timeout_s
        self._failures = 0
        self._last_sign = float("-inf")
        self.life = Life.UNHEARD

    def note_sign(self) -> None:
        """It has answered a call. That alone does not make it live: a draining shard answers too."""
        self._last_sign = self._clock.monotonic()
        self._failures = 0

    def note_answer(self, *, serving: bool) -> None:
        """It has answered a probe."""
        self.note_sign()
        self.life = Life.LIVE if serving else Life.DRAINING

    def note_failure(self, asked_at: float) -> None:
        """A probe that was sent at `asked_at`, in monotonic seconds, was not answered."""
        if asked_at < self._last_sign:
            return
        if self._clock.monotonic() - asked_at > self._timeout_s + _OWN_LATENESS_S:
            return
        self._failures += 1
        if self._failures >= self._most_failures:
            self.life = Life.SILENT
