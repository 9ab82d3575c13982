"""The errors of a client: those that only it can know, and those that it shares with the services.

A failed write says under which request id it went: the same events sent again under that id are never counted twice.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from tally.client.columns import Batch
from tally.contract.errors import (
    AlreadyDecided,
    Cancelled,
    ChangeOutOfRange,
    ClusterMismatch,
    DataLoss,
    DeadlineExceeded,
    IndexIncomplete,
    InUse,
    InvalidRequest,
    LeaseLost,
    ListFull,
    ListsTooLarge,
    NotEnabled,
    NotFound,
    NotPrimary,
    NotReady,
    NotReplayable,
    OutOfRange,
    Overloaded,
    PartitionCountMismatch,
    PeerMismatch,
    PermissionDenied,
    ReadTooLarge,
    RegionStale,
    Rejected,
    RequestIdReused,
    RightsStale,
    RunEnded,
    ServerFault,
    StaleFrame,
    StaleSnapshot,
    TallyError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VersionMismatch,
    Violation,
)

__all__ = [
    "AlreadyDecided",
    "BufferFull",
    "Cancelled",
    "ChangeOutOfRange",
    "ClientUnusable",
    "ClusterMismatch",
    "DataLoss",
    "DeadlineExceeded",
    "InUse",
    "IndexIncomplete",
    "InvalidRequest",
    "LeaseLost",
    "ListFull",
    "ListsTooLarge",
    "NotEnabled",
    "NotFound",
    "NotPrimary",
    "NotReady",
    "NotReplayable",
    "NotSent",
    "OutOfRange",
    "OutcomeUnknown",
    "Overloaded",
    "PartitionCountMismatch",
    "PeerMismatch",
    "PermissionDenied",
    "ReadTooLarge",
    "RegionStale",
    "Rejected",
    "RequestIdReused",
    "RightsStale",
    "RunEnded",
    "ServerFault",
    "StaleFrame",
    "StaleSnapshot",
    "StillSending",
    "TallyError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "VersionMismatch",
    "Violation",
]


class OutcomeUnknown(TallyError):
    """A write had no answer: its events may or may not have been counted.

    To be sure, send the same events again under the same request id (`request_id`, or `request_ids` for
    the batches of a stream). `reason` says why there was no answer.
    """

    reason = "UNKNOWN"
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

    batches: tuple[Batch, ...] = ()
    """What went without an answer, where the client itself had gathered it: events of several callers. To be sure
    of them: `process_many(batch.columns, request_id=batch.request_id)`."""


class StillSending(TallyError):
    """The caller has stopped waiting for the receipt of an event; the client continues to send it.

    It must not be sent again: under a new id it would count twice, and the id under which it goes is that of a
    request in which there are others' events too. `flush` tells what became of it, and so does `close`. `reason` says
    how the last attempt ended, and there is no `request_id`.
    """

    batches: tuple[Batch, ...] = ()
    """The request in which the event is, once it was sent."""


class NotSent(TallyError):
    """The events never left this client: they are not counted."""


class BufferFull(TallyError):
    """The buffer has no room for the event, which was not taken: it is not counted."""


class ClientUnusable(TallyError, RuntimeError):
    """The client is not open, was used in another process or event loop, or cannot work in this process."""
