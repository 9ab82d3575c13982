"""What was sent and what was acknowledged, to hold against what was counted.

For each video and event type, at every instant:

    acknowledged <= counted <= sent

What was sent and not acknowledged has an unknown outcome: an attempt without a receipt may have been counted,
all of it or, where it went to several shards, a part. With nothing unknown the three are equal.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Key = tuple[str, str]
"""video id, event type"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sums over all videos and event types, and what is wrong: a sentence each, empty when all is right."""

    sent: int
    acknowledged: int
    counted: int
    wrong: Sequence[str]

    @property
    def unknown(self) -> int:
        """Events whose outcome nobody knows."""
        return self.sent - self.acknowledged


class Ledger:
    """Counts events by video and event type. Events under an id that is sent again are one sending."""

    def __init__(self) -> None:
        self._sent: Counter[Key] = Counter()
        self._acknowledged: Counter[Key] = Counter()
        self._wrong: list[str] = []

    @property
    def keys(self) -> Sequence[Key]:
        """Everything that was sent, sorted."""
        return sorted(self._sent)

    def send(self, events: Iterable[Key]) -> None:
        """To be called before the first attempt."""
        self._sent.update(events)

    def acknowledge(self, events: Iterable[Key]) -> None:
        """To be called once, when there is a receipt."""
        self._acknowledged.update(events)

    def acknowledged(self, key: Key) -> int:
        return self._acknowledged[key]

    def sent(self, key: Key) -> int:
        return self._sent[key]

    def expect(self, is_so: bool, otherwise: str) -> None:
        """Note what is wrong, for the verdict."""
        if not is_so:
            self._wrong.append(otherwise)

    def judge(self, counted: Mapping[Key, int]) -> Verdict:
        """Compare with the counts of strong reads, one for each of `keys`."""
        wrong = list(self._wrong)
        if not self._acknowledged:
            wrong.append("nothing was acknowledged, so nothing is shown")
        for key in self.keys:
            least, most = self._acknowledged[key], self._sent[key]
            if not least <= counted[key] <= most:
                bounds = f"{least:,}" if least == most else f"{least:,} to {most:,}"
                wrong.append(f"{key[1]} of {key[0]}: counted {counted[key]:,}, and it should be {bounds}")
        return Verdict(
            self._sent.total(), self._acknowledged.total(), sum(counted[key] for key in self.keys), wrong
        )
