"""Cuts a request into entries, and returns a receipt when all of them are durable."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome, signed
from libs.domain.events import Events
from libs.domain.partition import cut, partition_of
from libs.rpc.columns import encode
from libs.rpc.tracing import inject_context
from libs.telemetry.setup import Telemetry
from services.partitioner.routing.router import Router
from tally.contract.errors import OutOfRange, RequestIdReused, TallyError, Violation

_DURABLE = frozenset((Outcome.JOURNALED, Outcome.DUPLICATE, Outcome.SPOOLED))


@dataclass(frozen=True, slots=True)
class Counted:
    """The outcome of a request whose entries are all durable; the counts are in events."""

    accepted: int
    duplicate: int
    spooled: bool
    """whether a part of it is on the disk of a shard only, and not yet checked for duplicates"""


class Ingest:
    """Makes requests durable."""

    def __init__(self, router: Router, clock: Clock, telemetry: Telemetry) -> None:
        self._router = router
        self._clock = clock
        self._telemetry = telemetry

    async def append(self, request_id: uuid.UUID, request_hash: int, events: Events) -> Counted:
        """Cut a request and send it; what became of its events once every entry is durable.

        Raises OutOfRange, RequestIdReused and the errors of Router.append. All but the first two leave open
        whether some of its entries are durable: the same request, sent again, finds out.
        """
        with _trace_append(self._telemetry) as traceparent:
            return await self._append(request_id, request_hash, events, traceparent)

    async def _append(
        self, request_id: uuid.UUID, request_hash: int, events: Events, traceparent: str
    ) -> Counted:
        request_hash = signed(request_hash)
        entries = [
            Entry(request_id, partition, request_hash, encode(part).SerializeToString(), part, traceparent)
            for partition, part in self._cut(events)
        ]
        outcomes = await self._router.append(entries)
        self._raise_refusal(outcomes)
        duplicate = sum(
            len(entry.events)
            for entry, outcome in zip(entries, outcomes, strict=True)
            if outcome == Outcome.DUPLICATE
        )
        return Counted(len(events) - duplicate, duplicate, Outcome.SPOOLED in outcomes)

    def _cut(self, events: Events) -> Iterator[tuple[int, Events]]:
        if len(events.video_ids) == 1:  # most requests of single events; nothing to cut
            return iter([(partition_of(events.video_ids[0], self._router.partition_count), events)])
        return cut(events, self._router.partition_count)

    def _raise_refusal(self, outcomes: Sequence[Outcome]) -> None:
        if Outcome.CONTENT_MISMATCH in outcomes:
            raise RequestIdReused(
                [Violation("request_id", "was used before for other content; every request needs its own")]
            )
        if Outcome.BELOW_FLOOR in outcomes:
            if not _DURABLE.isdisjoint(outcomes):  # under a new id that part would be counted twice
                raise TallyError(
                    "a part of this request is counted, and the rest is older than the journal reaches"
                )
            raise OutOfRange(
                [Violation("request_id", "is older than the journal reaches; not counted by this attempt")],
                server_time_us=self._clock.now_us(),
            )
        if not _DURABLE.issuperset(outcomes):  # what a shard may say one day is no acknowledgement either
            raise TallyError(
                "the journal refused an entry of this request for good; the log of its shard says why"
            )


@contextmanager
def _trace_append(telemetry: Telemetry) -> Iterator[str]:
    """A span around the sends to the shards; yields the W3C trace context for the entries, if the trace is sampled.

    The entries carry it themselves, because entries of many requests share one call.
    """
    if not telemetry.enabled:
        yield ""
        return
    with telemetry.tracer.start_as_current_span("append", kind=SpanKind.PRODUCER) as span:
        yield dict(inject_context()).get("traceparent", "") if span.is_recording() else ""
