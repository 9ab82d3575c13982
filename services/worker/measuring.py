"""The spans and metrics of a worker: one trace for each slot, from the lease to the last report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, Status, StatusCode

from libs.telemetry import catalogue
from libs.telemetry.setup import Telemetry


class Measuring:
    """The instruments of one worker, which its lanes share."""

    def __init__(self, telemetry: Telemetry, lanes: int) -> None:
        self._tracer = telemetry.tracer
        self._batches = catalogue.histogram(telemetry.meter, catalogue.WORKER_BATCH_DURATION)
        self._busy = 0
        catalogue.observe(telemetry.meter, catalogue.WORKER_SATURATION, lambda: self._busy / max(1, lanes))

    @contextmanager
    def slot(self) -> Iterator[Span]:
        """A span around asking for a slot, and working on it."""
        with self._tracer.start_as_current_span("slot") as span:
            yield span

    @contextmanager
    def work(self, span: Span, slot: str, job: str, handler: str) -> Iterator[None]:
        """The slot was leased: its lane is busy until the end of this."""
        if span.is_recording():
            span.set_attributes({"tally.slot": slot, "tally.job": job, "tally.handler": handler})
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    @contextmanager
    def batch(self, handler: str, items: int) -> Iterator[None]:
        """A span around one call of the handler, and its time by the way it ended."""
        attributes: dict[str, str] = {"handler": handler}
        started = time.perf_counter()
        with self._tracer.start_as_current_span(
            "batch",
            attributes={"tally.handler": handler, "tally.items": items},
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                attributes["error.type"] = type(error).__name__.removeprefix("_")
                span.set_status(Status(StatusCode.ERROR, attributes["error.type"]))
                raise
            finally:
                self._batches.record(time.perf_counter() - started, attributes)
