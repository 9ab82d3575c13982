"""Pure: decides from a shard's answers whether it is alive.

A shard is live from the first probe that it answers with SERVING. It stops being live

- at once, when it answers a probe with anything else: it drains. It still answers the calls that it has;
- when several probes in a row have failed (two): it is silent: dead or frozen, which cannot be distinguished.

One failed probe is no proof. On a busy machine a healthy shard may be late for a second, and a connection that ends
by its age may take a call with it. So failures count only in a row, and every sign of life ends the row: a probe
answered in between, or an answer to a call for entries, which a shard under load gives all the time. A failure of a
probe that was sent before the last sign of life counts for nothing, since probes overtake each other. And a probe that
failed much later than its time-out speaks of this process, which was frozen or had no CPU, and not of the shard.

To be wrong either way is safe, for the journal's key keeps counts exact. A shard that is given up too soon is live
again at the next probe that it answers, and what was sent to another meanwhile was only slower.
"""

from enum import StrEnum

from libs.domain.clock import Clock

_OWN_LATENESS_S = 0.5


class Life(StrEnum):
    """What is known of a shard."""

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
