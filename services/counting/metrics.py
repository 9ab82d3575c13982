"""The metrics of a shard. The names are in `libs.telemetry.catalogue`."""

from collections import Counter
from collections.abc import Iterable

from opentelemetry.metrics import Observation

from libs.domain.clock import Clock
from libs.domain.entry import Outcome
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry
from services.counting.spool.spool import Spool


class Metrics:
    """The instruments of one shard; they cost next to nothing while telemetry is off."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._meter = meter = telemetry.meter
        self._entries = Counter(dict.fromkeys(Outcome, 0))
        catalogue.observe(meter, catalogue.JOURNAL_ENTRIES, self._count_entries)
        self.commit_duration = catalogue.histogram(meter, catalogue.JOURNAL_COMMIT_DURATION)
        self.flush_duration = catalogue.histogram(meter, catalogue.FLUSH_DURATION)
        self.flush_cells = catalogue.counter(meter, catalogue.FLUSH_CELLS)
        self.merge_cells = catalogue.counter(meter, catalogue.MERGE_CELLS)
        self.given_up = catalogue.counter(meter, catalogue.LOGS_GIVEN_UP)
        self.spooled = catalogue.counter(meter, catalogue.SPOOL_WRITTEN)
        self.drained = catalogue.counter(meter, catalogue.SPOOL_DRAINED)
        self.taken_over = catalogue.counter(meter, catalogue.LOGS_TAKEN_OVER)

    def note_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Count the entries of one group by what became of them."""
        self._entries.update(
            outcomes
        )  # read at each export: an instrument would cost more than all of the rest

    def _count_entries(self) -> list[Observation]:
        return [
            Observation(count, {"outcome": outcome.name.lower()}) for outcome, count in self._entries.items()
        ]

    def observe_spool(self, spool: Spool, clock: Clock) -> None:
        """Report what is in the spool, at each export."""
        meter = self._meter
        catalogue.observe(meter, catalogue.SPOOL_ENTRIES, lambda: spool.contents.entry_count)
        catalogue.observe(meter, catalogue.SPOOL_BYTES, lambda: spool.contents.byte_count)
        catalogue.observe(meter, catalogue.SPOOL_AGE, lambda: spool.age_seconds(clock.now_us()))
