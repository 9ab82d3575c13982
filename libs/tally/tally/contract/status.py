"""The table between the tree of errors and gRPC statuses, read in both directions.

An error travels as a code, a message, and `google.rpc` details in the trailer `grpc-status-details-bin`
(https://google.aip.dev/193): `ErrorInfo` always, `BadRequest` for what is wrong with a request, `RetryInfo`
for how long to wait.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no py.typed

from tally.contract import errors
from tally.contract.errors import NOTHING_DONE, TallyError, Violation

DOMAIN = "tally"
DETAILS_KEY = "grpc-status-details-bin"

# The caller of a server whose trailers are over 8 KiB meets RESOURCE_EXHAUSTED instead of the error. The room
# between is for the headers that gRPC and proxies add.
MAX_TRAILER_BYTES = 7 * 1024
_MAX_MESSAGE_BYTES = 1024
_MAX_METADATA = 8
_MAX_KEY_BYTES = 32
_MAX_REASON_BYTES = 64
_TEXT_LIMITS = (256, 128, 64, 32)  # bytes a text of the details may have; the first that makes all fit

CODES: Mapping[type[TallyError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestIdReused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.ChangeOutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.PartitionCountMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ClusterMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyDecided: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotReplayable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LeaseLost: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RunEnded: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PeerMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RegionStale: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StaleFrame: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RegionStale: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StaleSnapshot: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.NotPrimary: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InUse: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ListFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ListsTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.IndexIncomplete: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotEnabled: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VersionMismatch: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.NotReady: grpc.StatusCode.UNAVAILABLE,
    errors.RightsStale: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ReadTooLarge: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.ServerFault: grpc.StatusCode.INTERNAL,
}
_BY_REASON = {kind.reason: kind for kind in CODES}
# What a status is read as that does not say its reason, or says one that is newer than this code.
_BY_CODE: Mapping[grpc.StatusCode, type[TallyError]] = {
    CODES[kind]: kind
    for kind in (
        errors.InvalidRequest,
        errors.OutOfRange,
        errors.NotFound,
        errors.Overloaded,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.Cancelled,
        errors.Unimplemented,
        errors.DataLoss,
    )
}


@dataclass(frozen=True, slots=True)
class Details:
    """What a status says beside its code and its message."""

    reason: str
    """empty if the status is not Tally's own; then there is no metadata either"""
    metadata: Mapping[str, str]
    violations: Sequence[Violation]
    retry_after_s: float | None


def code_of(error: TallyError) -> grpc.StatusCode:
    """The code of the error's class, or of the nearest class above it."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)


def class_of(reason: str, code: grpc.StatusCode) -> type[TallyError]:
    """The class of the error that a status with this reason and this code is read as."""
    return _BY_REASON.get(reason) or _BY_CODE.get(code, errors.ServerFault)


def abort_details(error: TallyError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """What to end the call with: code, message, trailing metadata.

    Texts are cut so that the trailers stay below 8 KiB; at the shortest limit they always do.
    """
    code = code_of(error)
    message = _cut(error.message, _MAX_MESSAGE_BYTES, _percent_encoded)
    number: int = code.value[0]
    for limit in _TEXT_LIMITS:
        status = status_pb2.Status(code=number, message=message, details=_details(error, limit))
        if _trailer_bytes(status) <= MAX_TRAILER_BYTES:
            break
    return code, message, ((DETAILS_KEY, status.SerializeToString()),)


def error_from_rpc(error: grpc.aio.AioRpcError) -> TallyError:
    """The error that the other side raised, with its message; where details are missing, its code decides."""
    details = read_details(error)
    kind = class_of(details.reason, error.code())
    message = error.details() or error.code().name
    is_unnamed = issubclass(kind, errors.Rejected) and not details.violations
    return kind.received(
        message,
        reason=details.reason,
        metadata=details.metadata,
        violations=[Violation("request", message)] if is_unnamed else details.violations,
        retry_after_s=details.retry_after_s,
    )


def read_details(error: grpc.aio.AioRpcError) -> Details:
    """The details in the trailers of a call; nothing where they are missing or unreadable."""
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    raw = (error.trailing_metadata() or {}).get(DETAILS_KEY)
    if isinstance(raw, bytes):
        try:
            for packed in status_pb2.Status.FromString(raw).details:
                for detail in (info, bad_request, retry):
                    packed.Unpack(detail)
        except DecodeError:  # the code and the message still say what happened
            pass
    is_ours = info.domain == DOMAIN
    return Details(
        info.reason if is_ours else "",
        dict(info.metadata) if is_ours else {},
        [Violation(each.field, each.description) for each in bad_request.field_violations],
        retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )


def _details(error: TallyError, limit: int) -> Iterator[AnyMessage]:
    metadata = {
        _cut(key, _MAX_KEY_BYTES): _cut(value, limit)
        for key, value in list(error.metadata.items())[:_MAX_METADATA]
        if key != NOTHING_DONE  # what another service said of its own call
    }
    if isinstance(error, errors.Overloaded) and error.nothing_done:
        metadata[NOTHING_DONE] = "true"
    reason = _cut(error.reason, _MAX_REASON_BYTES)
    yield _packed(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, errors.Rejected):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(violation.field, limit), description=_cut(violation.description, limit)
            )
            for violation in error.violations[: errors.MAX_VIOLATIONS]
        ]
        yield _packed(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, errors.Overloaded):
        delay = Duration()
        delay.FromMilliseconds(round(error.delay_s * 1000))
        yield _packed(error_details_pb2.RetryInfo(retry_delay=delay))


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _trailer_bytes(status: status_pb2.Status) -> int:
    """The bytes of both trailers on the wire: base64, and percent-encoding for the message."""
    base64_bytes: int = -(-status.ByteSize() // 3) * 4
    return len(DETAILS_KEY) + base64_bytes + len("grpc-message") + _percent_encoded(status.message)


def _percent_encoded(text: str) -> int:
    """The bytes of a `grpc-message`, of which only printable ASCII other than `%` goes as it is."""
    return len(quote(text, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}"))


def _cut(text: str, limit: int, measure: Callable[[str], int] = lambda text: len(text.encode())) -> str:
    """The text, or as much of its beginning as fits into `limit` with a mark that something is missing."""
    text = text.encode(errors="replace").decode()  # a lone surrogate cannot travel
    if measure(text) <= limit:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(text[:middle] + "…") <= limit else (low, middle - 1)
    return text[:low] + "…"
