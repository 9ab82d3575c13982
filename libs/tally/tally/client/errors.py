"""The one tree of errors that a call can raise.

`reason` is a stable word for programs; the message is a sentence for people. A failed write says under
which request id it went: the same events sent again under that id are never counted twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tally.client.columns import Batch


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request: the path of the field, and what is allowed there."""

    field: str
    description: str


class TallyError(Exception):
    """A call failed."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "UNKNOWN",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
        request_ids: Sequence[str] = (),
        unreachable: str | None = None,
    ) -> None:
        """`retry_after_s`: seconds that the server asks to wait; None if it did not say.

        `unreachable`: the address where nothing was reached; None if the service itself said what is wrong, or the
        client.
        """
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s
        self.request_ids = tuple(request_ids)
        self.unreachable = unreachable

    @property
    def request_id(self) -> str | None:
        """The id of the write that failed; None for a read."""
        return self.request_ids[0] if self.request_ids else None


class InvalidRequest(TallyError, ValueError):
    """The request can never be accepted as it is; `violations` says what to change."""

    @classmethod
    def of(cls, field: str, description: str) -> Self:
        """For what is refused here, before it is sent."""
        return cls(
            f"{field}: {description}",
            reason="INVALID_REQUEST",
            violations=[Violation(field, description)],
        )


def wrong_type(field: str, wanted: str, given: object) -> InvalidRequest:
    """The error of a field that was given something else than it takes."""
    return InvalidRequest.of(field, f"must be {wanted}, not {type(given).__name__}")


@contextmanager
def refuse_wrong_types(field: str) -> Iterator[None]:
    """Around the making of a message: what protobuf does not take becomes an InvalidRequest. `field`: its path."""
    try:
        yield
    except TallyError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest.of(field, f"cannot be sent: {error}") from error


class RequestIdReused(InvalidRequest):
    """The request id was used before, for other content. New events need a new id.

    The same events by another method are other content too: a retry goes by the same one.

    It is noticed where a part of the request meets its predecessor: other parts may have been counted.
    """


class OutOfRange(TallyError):
    """A time in the request lies outside what is accepted now. This attempt counted nothing.

    An earlier attempt under the same id may have: if it had no answer, its outcome stays unknown.
    """

    @property
    def server_time_us(self) -> int | None:
        """The server's time in microseconds since 1970-01-01 UTC, if it said."""
        time_us = self.metadata.get("server_time_us")
        return int(time_us) if time_us else None


class Overloaded(TallyError):
    """The service has more work than it can take. Send the same again after `retry_after_s` seconds.

    A write goes under the same id: a part of it may have been counted.
    """

    @property
    def counted_nothing(self) -> bool:
        """Whether this attempt was refused before any work was done for it. An earlier one may have counted."""
        return self.metadata.get("nothing_done") == "true"


class Unavailable(TallyError):
    """The service could not be reached, or something that it needs is away. Reads, and calls to the scheduler."""


class DeadlineExceeded(TallyError):
    """No answer came within the time that the call had. Reads, and calls to the scheduler."""


class OutcomeUnknown(TallyError):
    """A write had no answer: its events may or may not have been counted.

    To be sure, send the same events again under the same request id (`request_id`, or `request_ids` for
    the batches of a stream). `reason` says why there was no answer.
    """

    why: str | None = None
    """What happened, where the message says also what to do."""

    @classmethod
    def of(
        cls,
        why: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        request_ids: Sequence[str],
        unreachable: str | None = None,
    ) -> Self:
        """With the advice to send the same again."""
        ids = request_ids[0] if len(request_ids) == 1 else f"{request_ids[0]} and {len(request_ids) - 1} more"
        error = cls(
            f"{why} Whether the events were counted is not known: send the same again under the same id ({ids}), "
            "and they are counted once.",
            reason=reason,
            metadata=metadata,
            retry_after_s=retry_after_s,
            request_ids=request_ids,
            unreachable=unreachable,
        )
        error.why = why
        return error

    batches: "tuple[Batch, ...]" = ()
    """What went without an answer, where the client itself had gathered it: events of several callers. To be sure
    of them: `process_many(batch.columns, request_id=batch.request_id)`."""


class StillSending(TallyError):
    """A caller waits no longer for the receipt of an event, and the client goes on sending it.

    It must not be sent again: under a new id it would count twice, and the id under which it goes is that of a
    request in which there are others' events too. `flush` tells what became of it, and so does `close`. `reason` says
    how the last attempt ended, and there is no `request_id`.
    """

    batches: "tuple[Batch, ...]" = ()
    """The request in which the event is, once it was sent."""


class NotSent(TallyError):
    """The events never left this client: they are not counted."""


class BufferFull(TallyError):
    """The buffer has no room for the event, which was not taken: it is not counted."""


class Unimplemented(TallyError):
    """This version of the service does not answer this call."""


class NotFound(TallyError):
    """The service does not know what was asked for."""


class AlreadyDecided(TallyError):
    """A dead letter was decided before, in the other way."""


class ClusterMismatch(TallyError):
    """The call was meant for another cluster than that of the service; the message names both. Nothing was done."""


class NotReplayable(TallyError):
    """A dead letter cannot be replayed, for the reason that the message says. It stays as it is."""


class RightsStale(Unavailable):
    """A replica of the catalog cannot be sure of the newest rules, so it shows nothing. Ask again."""


class ChangeOutOfRange(TallyError):
    """The catalog has no such change, or none behind it any more. Read everything anew."""


class VersionMismatch(TallyError):
    """A resource is stored with another version than the one that was expected. Nothing was changed."""


class IndexIncomplete(TallyError):
    """A find names an index or a sort that is being made anew for a changed type. Ask again later."""


class InUse(TallyError):
    """Something cannot be changed or removed, because other things depend on it."""


class NotEnabled(TallyError):
    """The call needs a setting of the service that is off."""


class ServerFault(TallyError):
    """The service failed in a way that it should not; its log says more."""


class ClientUnusable(TallyError, RuntimeError):
    """The client is not open, was used in another process or event loop, or cannot work in this process."""
