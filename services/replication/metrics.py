"""The metrics of the replication service."""

import uuid
from collections.abc import Sequence

from opentelemetry.metrics import Observation

from libs.domain.clock import Clock
from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry


class ReplicationMetrics:
    """Instruments of one process, and how far each lane that it holds has come."""

    def __init__(self, telemetry: Telemetry, clock: Clock) -> None:
        self._clock = clock
        self._as_of_us: dict[uuid.UUID, int] = {}
        self._rows = catalogue.counter(telemetry.meter, catalogue.REPLICATION_ROWS)
        self._again = catalogue.counter(telemetry.meter, catalogue.REPLICATION_ROWS_AGAIN)
        self._bytes = catalogue.counter(telemetry.meter, catalogue.REPLICATION_BYTES)
        self._differing = catalogue.counter(telemetry.meter, catalogue.REPLICATION_DIFFERENT)
        catalogue.observe(telemetry.meter, catalogue.REPLICATION_LAG, self._lags)

    def received(self, rows: int, size: int, again: int) -> None:
        """A frame was applied; `again`: rows of it that were here before."""
        self._rows.add(rows)
        self._bytes.add(size)
        if again:
            self._again.add(again)

    def reached(self, device: uuid.UUID, as_of_us: int) -> None:
        """A pass of a device was completed."""
        self._as_of_us[device] = as_of_us

    def differed(self, locations: int) -> None:
        """A comparison found locations that differ, and not because they are late."""
        self._differing.add(locations)

    def _lags(self) -> Sequence[Observation]:
        now_us = self._clock.now_us()
        return [
            Observation((now_us - as_of_us) / 1_000_000, {"device": str(device)})
            for device, as_of_us in list(self._as_of_us.items())
        ]
