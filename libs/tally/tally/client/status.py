"""From a gRPC status to the error tree, and nothing else."""

from collections.abc import Sequence

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it ships no types

from tally.client import errors
from tally.client.answers import Refusal

DOMAIN = "tally"

_CLASSES: dict[grpc.StatusCode, type[errors.TallyError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
}
_REASONS: dict[str, type[errors.TallyError]] = {
    "REQUEST_ID_REUSED": errors.RequestIdReused,
    "ALREADY_DECIDED": errors.AlreadyDecided,
    "NOT_REPLAYABLE": errors.NotReplayable,
    "CLUSTER_MISMATCH": errors.ClusterMismatch,
    "RIGHTS_STALE": errors.RightsStale,
    "CHANGE_OUT_OF_RANGE": errors.ChangeOutOfRange,
    "VERSION_MISMATCH": errors.VersionMismatch,
    "IN_USE": errors.InUse,
    "INDEX_INCOMPLETE": errors.IndexIncomplete,
    "NOT_ENABLED": errors.NotEnabled,
}

# With these the service has looked at the write and says what became of it. After any other status an
# attempt may have been counted: the answer was lost, or made by something on the way.
_ANSWERED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


class Details:
    """The `google.rpc` messages that a status carries; empty where it carries none."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.retry_after_s: float | None = None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin" and isinstance(value, bytes):
                self._read(value)

    def _read(self, value: bytes) -> None:
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:  # of another's making; the status itself still says what happened
            return
        retry = error_details_pb2.RetryInfo()
        for detail in status.details:
            if detail.Is(retry.DESCRIPTOR):
                detail.Unpack(retry)
                self.retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            elif detail.Is(self.info.DESCRIPTOR):
                detail.Unpack(self.info)
            elif detail.Is(self.bad_request.DESCRIPTOR):
                detail.Unpack(self.bad_request)


def to_error(
    error: grpc.aio.AioRpcError, address: str, timeout_s: float | None, request_ids: Sequence[str]
) -> errors.TallyError:
    """The error that the caller gets. `request_ids`: those of the write; empty for a read."""
    details = Details(error)
    code = error.code()
    known = details.info.domain == DOMAIN
    reason = details.info.reason if known else code.name
    cls = _REASONS.get(reason) or _CLASSES.get(code, errors.ServerFault)
    message = error.details() or code.name
    if not known:
        message = _explain(code, message, address, timeout_s)
    metadata = dict(details.info.metadata) if known else None
    unreachable = None if known or code is not grpc.StatusCode.UNAVAILABLE else address
    if request_ids and code not in _ANSWERED:
        return errors.OutcomeUnknown.of(
            message,
            reason=reason,
            metadata=metadata,
            retry_after_s=details.retry_after_s,
            request_ids=request_ids,
            unreachable=unreachable,
        )
    return cls(
        message,
        reason=reason,
        metadata=metadata,
        violations=[errors.Violation(v.field, v.description) for v in details.bad_request.field_violations],
        retry_after_s=details.retry_after_s,
        request_ids=request_ids,
        unreachable=unreachable,
    )


def to_refusal_error(refusal: Refusal) -> errors.TallyError:
    """The error of a batch that a stream refused. What is wrong where, a refusal does not say."""
    code = (
        grpc.StatusCode[refusal.code]
        if refusal.code in grpc.StatusCode.__members__
        else grpc.StatusCode.UNKNOWN
    )
    request_ids = (refusal.request_id,)
    cls = _REASONS.get(refusal.reason) or _CLASSES.get(code, errors.ServerFault)
    if code not in _ANSWERED:
        return errors.OutcomeUnknown.of(
            refusal.message,
            reason=refusal.reason,
            retry_after_s=refusal.retry_after_s,
            request_ids=request_ids,
        )
    return cls(
        refusal.message, reason=refusal.reason, retry_after_s=refusal.retry_after_s, request_ids=request_ids
    )


def _explain(code: grpc.StatusCode, message: str, address: str, timeout_s: float | None) -> str:
    """A sentence for a status that did not come from Tally itself."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"{address} cannot be reached ({message}). Is Tally running there, and is the address right?"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        within = "in time" if timeout_s is None else f"within {timeout_s:.3g} s"
        return f"{address} did not answer {within}. Is it the right address, and is the timeout long enough?"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"What answers at {address} does not have this call ({message}). Is it Tally, and new enough?"
    return f"{address} answered {code.name}: {message}"
