"""The table between the tree of errors and gRPC statuses, read in both directions.

An error travels as a code, a message, and `google.rpc` details in the trailer `grpc-status-details-bin`
(https://google.aip.dev/193): `ErrorInfo` always, `BadRequest` for what is wrong with a request, `RetryInfo`
for how long to wait.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no py.typed

from libs.domain import errors
from libs.domain.errors import TallyError, Violation

DOMAIN = "tally"
DETAILS_KEY = "grpc-status-details-bin"
NOTHING_DONE = "nothing_done"
"""In the metadata of an Overloaded: the call was refused before any work was done for it."""

# The caller of a server whose trailers are over 8 KiB meets RESOURCE_EXHAUSTED instead of the error. The room
# between is for the headers that gRPC and proxies add.
MAX_TRAILER_BYTES = 7 * 1024
_MAX_MESSAGE_BYTES = 1024
_MAX_METADATA = 8
_MAX_KEY_BYTES = 32
_TEXT_LIMITS = (256, 128, 64, 32)  # bytes a text of the details may have; the first that makes all fit

_RETRY_AFTER_UNSAID_S = 1.0

# Where several errors share a code, a status that does not say its reason is read as the first of them.
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
    errors.PeerMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StaleFrame: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StaleSnapshot: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.NotPrimary: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InUse: grpc.StatusCode.FAILED_PRECONDITION,
    errors.IndexIncomplete: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotEnabled: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VersionMismatch: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.NotReady: grpc.StatusCode.UNAVAILABLE,
    errors.RightsStale: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ReadTooLarge: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    TallyError: grpc.StatusCode.INTERNAL,
}


def code_of(error: TallyError) -> grpc.StatusCode:
    """The code of the error's class, or of the nearest class above it."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


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
    message = error.details() or error.code().name
    info, bad_request, retry = _read_details(error)
    kind = _kind_of(info.reason if info.domain == DOMAIN else "", error.code())
    metadata = dict(info.metadata)
    # Said of the call that ended, and not of that of our own caller, to whom the error may be handed on.
    metadata.pop(NOTHING_DONE, None)
    rebuilt = _rebuild(kind, message, metadata, bad_request, retry)
    rebuilt.message = message
    rebuilt.args = (message,)
    rebuilt.metadata.update(metadata)
    return rebuilt


def _details(error: TallyError, limit: int) -> Iterator[AnyMessage]:
    metadata = {
        _cut(key, _MAX_KEY_BYTES): _cut(value, limit)
        for key, value in list(error.metadata.items())[:_MAX_METADATA]
    }
    if isinstance(error, errors.Overloaded) and error.nothing_done:
        metadata[NOTHING_DONE] = "true"
    yield _packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
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
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
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


def _read_details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    """The details that the call's trailers hold; empty ones for those that are missing or unreadable."""
    found = (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo())
    raw = (error.trailing_metadata() or {}).get(DETAILS_KEY)
    if isinstance(raw, bytes):
        try:
            for packed in status_pb2.Status.FromString(raw).details:
                for detail in found:
                    packed.Unpack(detail)
        except DecodeError:  # the code and the message still say what happened
            pass
    return found


def _kind_of(reason: str, code: grpc.StatusCode) -> type[TallyError]:
    for kind in CODES:
        if kind.reason == reason:
            return kind
    for kind, known in CODES.items():
        if known is code:
            return kind
    return TallyError


def _rebuild(
    kind: type[TallyError],
    message: str,
    metadata: Mapping[str, str],
    bad_request: error_details_pb2.BadRequest,
    retry: error_details_pb2.RetryInfo,
) -> TallyError:
    if issubclass(kind, errors.Rejected):
        violations: Sequence[Violation] = [
            Violation(violation.field, violation.description) for violation in bad_request.field_violations
        ] or [Violation("request", message)]
        total = _integer(metadata.get("violations"), len(violations))
        if issubclass(kind, errors.OutOfRange):
            return kind(violations, total, server_time_us=_integer(metadata.get("server_time_us"), 0))
        return kind(violations, total)
    if issubclass(kind, errors.Overloaded):
        said = retry.HasField("retry_delay")
        return kind(
            message,
            retry_after_s=retry.retry_delay.ToMilliseconds() / 1000 if said else _RETRY_AFTER_UNSAID_S,
        )
    return kind(message)


def _integer(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.lstrip("-").isdecimal() else otherwise
