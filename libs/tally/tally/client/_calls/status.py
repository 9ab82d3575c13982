"""From a gRPC status, or a refusal on a stream, to the error that a caller gets."""

from collections.abc import Sequence

import grpc

from tally.client.answers import Refusal
from tally.client.errors import OutcomeUnknown
from tally.contract.errors import TallyError
from tally.contract.status import class_of, error_from_rpc, read_details

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


def to_error(
    rpc: grpc.aio.AioRpcError, address: str, timeout_s: float | None, request_ids: Sequence[str]
) -> TallyError:
    """The error that the caller gets. `request_ids`: those of the write; empty for a read."""
    error, code = error_from_rpc(rpc), rpc.code()
    if not read_details(rpc).reason:  # it was not Tally that ended the call so
        error.reason = code.name
        error.message = _explain(code, error.message, address, timeout_s)
        error.args = (error.message,)
        error.unreachable = address if code is grpc.StatusCode.UNAVAILABLE else None
    error.request_ids = tuple(request_ids)
    return _in_doubt(error) if request_ids and code not in _ANSWERED else error


def to_refusal_error(refusal: Refusal) -> TallyError:
    """The error of a batch that a stream refused. What is wrong where, a refusal does not say."""
    code = (
        grpc.StatusCode[refusal.code]
        if refusal.code in grpc.StatusCode.__members__
        else grpc.StatusCode.UNKNOWN
    )
    error = class_of(refusal.reason, code).received(
        refusal.message,
        reason=refusal.reason,
        retry_after_s=refusal.retry_after_s,
        request_ids=(refusal.request_id,),
    )
    return error if code in _ANSWERED else _in_doubt(error)


def _in_doubt(error: TallyError) -> OutcomeUnknown:
    return OutcomeUnknown.of(
        error.message,
        reason=error.reason,
        metadata=error.metadata,
        retry_after_s=error.retry_after_s,
        request_ids=error.request_ids,
        unreachable=error.unreachable,
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
