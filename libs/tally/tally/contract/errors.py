"""The one tree of errors: a service raises one, its status carries it, and the client raises it again.

Each class has a stable `reason` for programs; its message is a sentence for people that says what to do.
`tally.contract.status` turns them into gRPC statuses, and back. Errors that only a client can know, such as a write
without an answer, are below the same root in `tally.client.errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

MAX_VIOLATIONS = 20
"""The number of violations that an error lists; the others are only counted."""
NOTHING_DONE = "nothing_done"
"""In the metadata of an Overloaded: the call was refused before any work was done for it."""
_UNSAID_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request: the path of the field, and what is allowed there."""

    field: str
    description: str


class TallyError(Exception):
    """A call failed."""

    reason: str = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
        request_ids: Sequence[str] = (),
        unreachable: str | None = None,
    ) -> None:
        """`reason`: where it is not that of the class.

        `retry_after_s`: seconds that the service asks to wait; None if it did not say.
        `request_ids`: those of the writes that failed, which a client knows.
        `unreachable`: the address where a client reached nothing; None if the service itself said what is wrong, or
        the client.
        """
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s
        self.request_ids = tuple(request_ids)
        self.unreachable = unreachable

    @classmethod
    def received(cls, message: str, **said: Any) -> Self:
        """The error that another process raised, with what its status says; keywords as of TallyError itself."""
        error = cls.__new__(cls, message)
        TallyError.__init__(error, message, **said)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled by what it holds: the classes below are made in several ways."""
        return _blank, (type(self), self.args), self.__dict__

    @property
    def request_id(self) -> str | None:
        """The id of the write that failed; None for a read."""
        return self.request_ids[0] if self.request_ids else None


def _blank(kind: type[TallyError], args: tuple[Any, ...]) -> TallyError:
    return kind.__new__(kind, *args)


class ServerFault(TallyError):
    """The service failed in a way that it should not; its log says more."""


class Rejected(TallyError):
    """The request is wrong in one or more places; `violations` holds the first of them."""

    def __init__(self, violations: Sequence[Violation], total: int | None = None) -> None:
        """`total`: how many there are, if they are more than these."""
        count = len(violations) if total is None else total
        first = violations[0]
        more = f" (and {count - 1} more)" if count > 1 else ""
        super().__init__(
            f"{first.field}: {first.description}{more}",
            metadata={"violations": str(count)},
            violations=violations,
        )

    @classmethod
    def of(cls, field: str, description: str) -> Self:
        """For one thing that is wrong."""
        return cls([Violation(field, description)])

    @property
    def total(self) -> int:
        """The number of all violations, including those that are not listed."""
        said = _read_integer(self.metadata.get("violations"))
        return len(self.violations) if said is None else said


class InvalidRequest(Rejected, ValueError):
    """The request can never be accepted as it is; `violations` says what to change."""

    reason = "INVALID_REQUEST"


class RequestIdReused(InvalidRequest):
    """The request id was used before, for other content. New events need a new id.

    The same events by another method are other content too: a retry goes by the same one.

    It is noticed where a part of the request meets its predecessor: other parts may have been counted.
    """

    reason = "REQUEST_ID_REUSED"


class OutOfRange(Rejected):
    """A time in the request is outside the accepted range. This attempt counted nothing.

    An earlier attempt under the same id may have: if it had no answer, its outcome stays unknown.
    """

    reason = "OUT_OF_RANGE"

    def __init__(
        self, violations: Sequence[Violation], total: int | None = None, *, server_time_us: int
    ) -> None:
        super().__init__(violations, total)
        self.metadata["server_time_us"] = str(server_time_us)

    @property
    def server_time_us(self) -> int | None:
        """The server's time in microseconds since 1970-01-01 UTC, if it said."""
        return _read_integer(self.metadata.get("server_time_us"))


class PartitionCountMismatch(TallyError):
    """Two parts of one cluster were set up with different partition counts."""

    reason = "PARTITION_COUNT_MISMATCH"


class ClusterMismatch(TallyError):
    """An internal call is meant for another cluster, another epoch of it or another partition count.

    The message names both. Nothing was done.
    """

    reason = "CLUSTER_MISMATCH"


class Overloaded(TallyError):
    """The service has more work than it can take. Send the same again after `retry_after_s` seconds.

    A write goes under the same id: a part of it may have been counted.
    """

    reason = "OVERLOADED"
    nothing_done: bool = False
    """Refused here before any work was done for the call, so nothing of it can have been counted. Only the caller of
    this process is told so: others may have done their part of that caller's own request."""

    def __init__(self, message: str, *, retry_after_s: float, nothing_done: bool = False) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.nothing_done = nothing_done

    @property
    def delay_s(self) -> float:
        """How long to wait, also if the service did not say."""
        return _UNSAID_DELAY_S if self.retry_after_s is None else self.retry_after_s

    @property
    def counted_nothing(self) -> bool:
        """Whether the service says that it refused this attempt before any work. An earlier one may have counted."""
        return self.metadata.get(NOTHING_DONE) == "true"


class NotPrimary(TallyError):
    """A strong read was sent to a service that reads from a standby."""

    reason = "NOT_PRIMARY"


class Unavailable(TallyError):
    """The service could not be reached, or something that the call needs is unreachable; retry the same request."""

    reason = "UNAVAILABLE"


class NotReady(Unavailable):
    """A service cannot start or continue in its environment; the message says what to change."""

    reason = "NOT_READY"


class RightsStale(Unavailable):
    """A replica of the catalog cannot be sure of the newest rules, so it shows nothing; another one may be."""

    reason = "RIGHTS_STALE"


class DeadlineExceeded(TallyError):
    """No answer came within the time that the call had. A write may or may not have been counted."""

    reason = "DEADLINE_EXCEEDED"


class ReadTooLarge(DeadlineExceeded):
    """Postgres did not finish a statement within its time limit, so it was cancelled. Ask for less at once."""

    reason = "READ_TOO_LARGE"


class Unauthenticated(TallyError):
    """The service does not know who calls. Nothing was done.

    `reason` is CREDENTIALS_MISSING (neither a token nor a certificate that it knows), TOKEN_UNKNOWN, TOKEN_EXPIRED or
    TOKEN_INVALID.
    """

    reason = "UNAUTHENTICATED"


class PermissionDenied(TallyError):
    """The caller may not do this. Nothing was done.

    `reason` is ROLE_MISSING, or OUTSIDE_RESTRICTION where a token or a certificate is only for some videos or types of
    events.
    """

    reason = "PERMISSION_DENIED"


class Cancelled(TallyError):
    """The call was cancelled. A write may or may not have been counted."""

    reason = "CANCELLED"


class Unimplemented(TallyError):
    """This version of the service does not answer this call."""

    reason = "UNIMPLEMENTED"


class NotFound(TallyError):
    """The requested object does not exist."""

    reason = "NOT_FOUND"


class AlreadyDecided(TallyError):
    """A dead letter was decided before, in the other way."""

    reason = "ALREADY_DECIDED"


class NotReplayable(TallyError):
    """A dead letter cannot be replayed now, for the reason that the message says. It stays as it is."""

    reason = "NOT_REPLAYABLE"


class LeaseLost(TallyError):
    """The lease of a slot is not in force any more; nothing was recorded by this call."""

    reason = "LEASE_LOST"


class RunEnded(TallyError):
    """A run has ended, so that it cannot be cancelled any more."""

    reason = "RUN_ENDED"


class ChangeOutOfRange(TallyError):
    """The feed of the catalog has no such change, or no longer has the changes after it. Read everything again."""

    reason = "CHANGE_OUT_OF_RANGE"


class VersionMismatch(TallyError):
    """A resource is stored with another version than the one that was expected. Nothing was changed."""

    reason = "VERSION_MISMATCH"


class InUse(TallyError):
    """Something cannot be changed or removed, because other things depend on it; the message names them."""

    reason = "IN_USE"


class ListFull(TallyError):
    """A list of the catalog has as many entries as it may have; nothing was added."""

    reason = "LIST_FULL"


class ListsTooLarge(TallyError):
    """The lists that a find names have more entries than one find may read. Name fewer or shorter ones."""

    reason = "LISTS_TOO_LARGE"


class IndexIncomplete(TallyError):
    """A find uses an index or a sort that is being rebuilt for a changed type. Retry later."""

    reason = "INDEX_INCOMPLETE"


class NotEnabled(TallyError):
    """The call needs a setting of the service that is off."""

    reason = "NOT_ENABLED"


class PeerMismatch(TallyError):
    """Two regions cannot replicate as they are set up; the message says what to change."""

    reason = "PEER_MISMATCH"


class RegionStale(TallyError):
    """The counts of a region are older than the caller accepts, or not here yet; the message names it."""

    reason = "REGION_STALE"


class StaleFrame(TallyError):
    """A frame is not the next one of the stream in force; nothing of it was applied."""

    reason = "STALE_FRAME"


class StaleSnapshot(TallyError):
    """A snapshot is older than what it would replace, or not of the expected form; the old state stays."""

    reason = "STALE_SNAPSHOT"


class DataLoss(TallyError):
    """The received data differ from the sent data."""

    reason = "DATA_LOSS"


def _read_integer(text: str | None) -> int | None:
    return int(text) if text and text.removeprefix("-").isdecimal() else None
