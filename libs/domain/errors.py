"""The one tree of errors that a caller can meet.

Each class has a stable `reason` for programs; its message is a sentence for people that says what to do.
`libs.rpc.status` turns them into gRPC statuses, and back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class TallyError(Exception):
    """Something that the caller is told about, in its own words."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


MAX_VIOLATIONS = 20
"""So many violations of a request are told; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request: the path of the field, and what is allowed there."""

    field: str
    description: str


class Rejected(TallyError):
    """The request is wrong in one or more places; `total` counts them, `violations` holds the first."""

    def __init__(self, violations: Sequence[Violation], total: int | None = None) -> None:
        self.violations = tuple(violations)
        self.total = len(self.violations) if total is None else total
        first = self.violations[0]
        more = f" (and {self.total - 1} more)" if self.total > 1 else ""
        super().__init__(
            f"{first.field}: {first.description}{more}", metadata={"violations": str(self.total)}
        )


class InvalidRequest(Rejected):
    """The request can never be accepted as it is."""

    reason = "INVALID_REQUEST"


class OutOfRange(Rejected):
    """A time in the request lies outside what is accepted now; not counted by this attempt."""

    reason = "OUT_OF_RANGE"

    def __init__(
        self, violations: Sequence[Violation], total: int | None = None, *, server_time_us: int
    ) -> None:
        super().__init__(violations, total)
        self.server_time_us = server_time_us
        self.metadata["server_time_us"] = str(server_time_us)


class RequestIdReused(InvalidRequest):
    """The request id was used before, for other content."""

    reason = "REQUEST_ID_REUSED"


class PartitionCountMismatch(TallyError):
    """Two parts of one cluster were set up with different partition counts."""

    reason = "PARTITION_COUNT_MISMATCH"


class ClusterMismatch(TallyError):
    """An internal call is meant for another cluster, another epoch of it or another partition count."""

    reason = "CLUSTER_MISMATCH"


class Overloaded(TallyError):
    """There is more work than can be taken now; the caller should wait `retry_after_s` seconds.

    `nothing_done`: refused before any work was done for it, so nothing of it can have been counted. A caller may
    rely on this only for what he asked himself: others may have done their part of his own caller's request.
    """

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float, nothing_done: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.nothing_done = nothing_done


class ReadTooLarge(TallyError):
    """Postgres did not finish a statement within its time limit, so it was cancelled."""

    reason = "READ_TOO_LARGE"


class NotPrimary(TallyError):
    """A strong read was sent to a service that reads from a standby."""

    reason = "NOT_PRIMARY"


class Unavailable(TallyError):
    """Something that the call needs is away; the same request may be sent again."""

    reason = "UNAVAILABLE"


class DeadlineExpired(TallyError):
    """The caller's deadline passed first. A write may or may not have been counted."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(TallyError):
    """The call was cancelled. A write may or may not have been counted."""

    reason = "CANCELLED"


class Unimplemented(TallyError):
    """The api has this, but this version of the service does not answer it yet."""

    reason = "UNIMPLEMENTED"


class NotFound(TallyError):
    """There is no such thing."""

    reason = "NOT_FOUND"


class AlreadyDecided(TallyError):
    """A dead letter was decided before, in the other way."""

    reason = "ALREADY_DECIDED"


class NotReplayable(TallyError):
    """A dead letter cannot be replayed now; it stays as it is, and the message says why."""

    reason = "NOT_REPLAYABLE"


class LeaseLost(TallyError):
    """The lease of a slot is not in force any more; nothing was recorded by this call."""

    reason = "LEASE_LOST"


class RightsStale(Unavailable):
    """A replica of the catalog cannot be sure of the newest rules, so it shows nothing; another one may be."""

    reason = "RIGHTS_STALE"


class ChangeOutOfRange(TallyError):
    """The feed of the catalog has no such change, or none behind it any more; the message says where to begin anew."""

    reason = "CHANGE_OUT_OF_RANGE"


class VersionMismatch(TallyError):
    """A resource is stored with another version than the caller expects; nothing was changed."""

    reason = "VERSION_MISMATCH"


class InUse(TallyError):
    """Something cannot be changed or removed, because other things depend on it; the message names them."""

    reason = "IN_USE"


class IndexIncomplete(TallyError):
    """A find names an index or a sort that is being made anew for a changed type; later it is complete."""

    reason = "INDEX_INCOMPLETE"


class NotEnabled(TallyError):
    """The request needs a setting that is off."""

    reason = "NOT_ENABLED"


class PeerMismatch(TallyError):
    """Two regions cannot replicate as they are set up; the message says what to change."""

    reason = "PEER_MISMATCH"


class StaleFrame(TallyError):
    """A frame is not the next one of the stream in force; nothing of it was applied."""

    reason = "STALE_FRAME"


class StaleSnapshot(TallyError):
    """A snapshot is older than what it would replace, or not of the expected form; the old state stays."""

    reason = "STALE_SNAPSHOT"


class DataLoss(TallyError):
    """What was received is not what was sent."""

    reason = "DATA_LOSS"


class NotReady(Unavailable):
    """A service cannot start, or go on, with what it found; the message says what to change."""

    reason = "NOT_READY"
