"""The results of events: resolves their futures, and counts the events by result."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from tally.client._buffering.buffer import Draft
from tally.client._delivery.sending import cut_off, last_attempt
from tally.client.answers import Receipt
from tally.client.columns import Batch
from tally.client.errors import NotSent, OutcomeUnknown
from tally.contract.errors import TallyError, Violation

_LOGGER = logging.getLogger("tally.client")


class Future(Protocol):
    """What asyncio's futures and those of threads have in common."""

    def done(self) -> bool: ...
    def set_result(self, result: Receipt, /) -> None: ...
    def set_exception(self, exception: TallyError, /) -> None: ...
    def exception(self) -> BaseException | None: ...


F = TypeVar("F", bound=Future)
"""The futures of one client: asyncio's own, or those of threads."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The events that were handed in one by one: how many are where now, and what became of the others."""

    buffered_events: int
    """without an end yet, those under way included"""
    in_flight_requests: int
    counted_events: int
    """with a receipt"""
    refused_events: int
    """can not be accepted as they are; not counted"""
    unknown_events: int
    """given up after an attempt without an answer"""
    unsent_events: int
    """given up before any attempt; not counted"""
    retries: int
    """of requests, those of `process_many` included"""


NO_PROGRESS = Progress(0, 0, 0, 0, 0, 0, 0)
"""The progress of a client that has had no events."""


class Ends(Generic[F]):
    """The ends of the events of one client. Callers who look no longer are passed over."""

    def __init__(self, on_end: Callable[[int], None]) -> None:
        """`on_end`: called with the number of events that have just been resolved."""
        self._on_end = on_end
        self._counted = self._refused = self._unknown = self._unsent = 0
        self._loss: TallyError | None = None
        self._lost = 0

    def take_loss(self) -> TallyError | None:
        """The first error of an event whose caller does not wait, since this was last asked; None if there was none."""
        loss, lost = self._loss, self._lost
        self._loss, self._lost = None, 0
        if loss is not None:
            loss.add_note(
                f"Without a receipt since the last flush: {_events(lost)}, of those whose callers do not wait."
            )
        return loss

    def progress(self, buffered: int, in_flight: int, retries: int) -> Progress:
        """The results so far, with the owner's state of unresolved events."""
        return Progress(
            buffered_events=buffered,
            in_flight_requests=in_flight,
            counted_events=self._counted,
            refused_events=self._refused,
            unknown_events=self._unknown,
            unsent_events=self._unsent,
            retries=retries,
        )

    def count(self, draft: Draft[F], receipt: Receipt) -> None:
        """All events of a draft are durable."""
        futures = draft.take_all()
        self._counted += len(futures)
        for future in futures:
            _tell(future, partial(future.set_result, receipt))
        self._on_end(len(futures))

    def refuse(self, draft: Draft[F], bad: Mapping[int, Violation], error: TallyError) -> None:
        """Fail the named events, which cannot be accepted, each with its violations, and remove them."""
        self._refused += len(bad)
        _LOGGER.warning("%s of %d refused: %s", _events(len(bad)), len(draft), error)
        told: list[F] = []
        for future, violation in zip(draft.take(bad), bad.values(), strict=True):
            own = type(error).received(
                f"{violation.field}: {violation.description}",
                reason=error.reason,
                metadata=error.metadata,
                violations=[violation],
                request_ids=error.request_ids,
            )
            told += _fail([future], own)
        self._note(draft, told, len(bad), error)
        self._on_end(len(bad))

    def fail(self, draft: Draft[F], error: TallyError) -> None:
        """All that is left of a draft ends with an error."""
        futures = draft.take_all()
        if not futures:
            return
        if isinstance(error, OutcomeUnknown):
            self._unknown += len(futures)
        elif isinstance(error, NotSent):
            self._unsent += len(futures)
        else:
            self._refused += len(futures)
        _LOGGER.warning("%s without a receipt: %s", _events(len(futures)), error)
        self._note(draft, _fail(futures, error), len(futures), error)
        self._on_end(len(futures))

    def give_up(self, drafts: Sequence[Draft[F]]) -> TallyError | None:
        """All that is left ends because the client is closed; the error for the whole of it."""
        why = "the client was closed"
        unsent, unknown = self._unsent, self._unknown
        batches: list[Batch] = []
        last: TallyError | None = None
        for draft in drafts:
            error = cut_off(draft.delivery, "CLIENT_CLOSED", why)
            if isinstance(error, OutcomeUnknown):
                batches.extend(error.batches)
                last = draft.delivery.error or last
            self.fail(draft, error)
        unsent, unknown = self._unsent - unsent, self._unknown - unknown
        if batches:
            also = f", and {unsent:,} more were never sent" if unsent else ""
            whole = OutcomeUnknown(
                f"{why} before {_events(unknown)} had an answer; whether they were counted is not known{also}"
                f"{last_attempt(last)}",
                reason="CLIENT_CLOSED",
                request_ids=[batch.request_id for batch in batches],
                unreachable=None if last is None else last.unreachable,
            )
            whole.batches = tuple(batches)
            return whole
        if unsent:
            return NotSent(
                f"{why} before {_events(unsent)} could be sent; they are not counted", reason="CLIENT_CLOSED"
            )
        return None

    def _note(self, draft: Draft[F], told: Sequence[F], failed: int, error: TallyError) -> None:
        """Keep the error for those who flush or close, if of so many events that failed one had nobody who waits.

        `told`: the futures that had no end before. It is after telling them that one looks who waits: a thread that
        goes looks for an end after it has said so, and one of the two sees the other.
        """
        lost = failed - sum(map(draft.is_awaited, told))
        if lost:
            draft.loss = draft.loss or copy.copy(error)
            self._loss = self._loss or copy.copy(error)
            self._lost += lost


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _fail(futures: Sequence[F], error: TallyError) -> Sequence[F]:
    """The unresolved futures; the others were cancelled by their callers."""
    told = [future for future in futures if not future.done()]
    for future in told:
        # A copy for each, or the tracebacks of all callers would grow into one.
        _tell(future, partial(future.set_exception, copy.copy(error)))
        future.exception()  # or asyncio complains about each event of a caller who does not look
    return told


def _tell(future: Future, end: Callable[[], None]) -> None:
    """End a future that has none. That of a thread calls its callbacks here, and some of those raise SystemExit."""
    if future.done():
        return
    try:
        end()
    except BaseException:
        _LOGGER.exception("a callback of the future of an event failed")
