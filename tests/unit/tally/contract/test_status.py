"""Each row of the table both ways, and trailers that always arrive."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no py.typed
from hypothesis import given
from hypothesis import strategies as st

from tally.contract import errors
from tally.contract.errors import MAX_VIOLATIONS, TallyError, Violation
from tally.contract.status import CODES, DETAILS_KEY, abort_details, error_from_rpc

VIOLATIONS = [Violation("video_id", "1 to 128 bytes"), Violation("event_type", "1 to 64 of [a-z0-9_.-]")]

ROWS: list[tuple[TallyError, grpc.StatusCode]] = [
    (errors.InvalidRequest(VIOLATIONS), grpc.StatusCode.INVALID_ARGUMENT),
    (errors.RequestIdReused(VIOLATIONS), grpc.StatusCode.INVALID_ARGUMENT),
    (errors.OutOfRange(VIOLATIONS, server_time_us=12), grpc.StatusCode.OUT_OF_RANGE),
    (errors.ChangeOutOfRange("before a restore"), grpc.StatusCode.OUT_OF_RANGE),
    (errors.VersionMismatch("another version"), grpc.StatusCode.ABORTED),
    (errors.InUse("has children"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ListFull("100,000 entries"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.ListsTooLarge("200,000 entries"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.IndexIncomplete("index:genre"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.NotEnabled("off"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.RightsStale("no news"), grpc.StatusCode.UNAVAILABLE),
    (errors.PartitionCountMismatch("16 here, 64 there"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ClusterMismatch("another cluster"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.NotFound("no letter"), grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyDecided("was dropped"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.NotReplayable("still refused"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.LeaseLost("taken by another"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.RunEnded("done"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Overloaded("full", retry_after_s=2.5), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable("Postgres is unreachable"), grpc.StatusCode.UNAVAILABLE),
    (errors.NotReady("migrate first"), grpc.StatusCode.UNAVAILABLE),
    (errors.ReadTooLarge("cancelled"), grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.PeerMismatch("other columns"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.StaleFrame("not the next"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.RegionStale("an hour old"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.StaleSnapshot("too old"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.DataLoss("wrong checksum"), grpc.StatusCode.DATA_LOSS),
    (errors.NotPrimary("a standby"), grpc.StatusCode.FAILED_PRECONDITION),
    (errors.DeadlineExceeded("too late"), grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Unauthenticated("no token"), grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied("no role"), grpc.StatusCode.PERMISSION_DENIED),
    (errors.Cancelled("by the caller"), grpc.StatusCode.CANCELLED),
    (errors.Unimplemented("not yet"), grpc.StatusCode.UNIMPLEMENTED),
    (errors.ServerFault("broken"), grpc.StatusCode.INTERNAL),
]


def sent(error: TallyError) -> grpc.aio.AioRpcError:
    """The error as its caller's stub raises it."""
    code, message, trailers = abort_details(error)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), message)


def details_of(error: TallyError) -> status_pb2.Status:
    return status_pb2.Status.FromString(dict(abort_details(error)[2])[DETAILS_KEY])


def wire_bytes(error: TallyError) -> int:
    """What the trailers weigh on the wire, counted apart from the code under test."""
    _, message, trailers = abort_details(error)
    encoded = sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in message.encode())
    return encoded + sum(len(key) + 4 * ((len(value) + 2) // 3) + 64 for key, value in trailers)


@pytest.mark.parametrize(("error", "code"), ROWS, ids=lambda value: type(value).__name__)
def test_each_error_crosses_the_wire_and_comes_back_as_itself(
    error: TallyError, code: grpc.StatusCode
) -> None:
    arrived = sent(error)
    back = error_from_rpc(arrived)
    assert arrived.code() is code
    assert type(back) is type(error)
    assert (back.message, str(back), back.metadata) == (error.message, error.message, error.metadata)
    for name in ("violations", "total", "retry_after_s"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_the_rows_above_are_the_whole_table() -> None:
    assert {type(error): code for error, code in ROWS} == CODES


def test_each_error_of_the_tree_is_in_the_table_or_above_some_that_are() -> None:
    def tree(kind: type[TallyError]) -> list[type[TallyError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    for kind in tree(TallyError):
        if kind.__module__ == errors.__name__:
            assert kind in CODES or any(issubclass(known, kind) for known in CODES)


def test_a_reason_that_is_newer_than_this_code_stays_with_the_error() -> None:
    class DiskFull(errors.Unavailable):
        reason = "DISK_FULL"

    back = error_from_rpc(sent(DiskFull("full")))
    assert (type(back), back.reason) == (errors.Unavailable, "DISK_FULL")


def test_a_delay_that_nobody_named_is_none_and_one_is_sent_on_all_the_same() -> None:
    bare = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata())
    back = error_from_rpc(bare)
    assert isinstance(back, errors.Overloaded)
    assert (back.retry_after_s, back.delay_s) == (None, 1.0)
    assert error_from_rpc(sent(back)).retry_after_s == 1.0


def test_reasons_tell_the_errors_apart() -> None:
    assert len({kind.reason for kind in CODES}) == len(CODES)


def test_a_class_that_is_not_in_the_table_travels_as_the_one_above_it() -> None:
    class DiskFull(errors.Overloaded):
        reason = "DISK_FULL"

    assert sent(DiskFull("full", retry_after_s=1)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_details_name_the_reason_the_violations_and_the_delay() -> None:
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    first, second = details_of(errors.InvalidRequest(VIOLATIONS, total=70)).details
    assert first.Unpack(info)
    assert second.Unpack(bad_request)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "INVALID_REQUEST",
        "tally",
        {"violations": "70"},
    )
    assert [v.field for v in bad_request.field_violations] == ["video_id", "event_type"]

    retry = error_details_pb2.RetryInfo()
    assert details_of(errors.Overloaded("full", retry_after_s=2.5)).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 2500


def test_that_nothing_was_done_is_told_to_the_caller_and_not_handed_on_to_his() -> None:
    info = error_details_pb2.ErrorInfo()
    shed = errors.Overloaded("full", retry_after_s=1.0, nothing_done=True)
    assert details_of(shed).details[0].Unpack(info)
    assert dict(info.metadata) == {"nothing_done": "true"}

    back = error_from_rpc(sent(shed))
    assert isinstance(back, errors.Overloaded)
    assert (back.counted_nothing, back.nothing_done) == (True, False)
    assert details_of(back).details[0].Unpack(info)
    assert dict(info.metadata) == {}


def test_only_the_first_20_violations_travel_and_the_total_stays() -> None:
    many = [Violation(f"events[{i}].video_id", "1 to 128 bytes") for i in range(200)]
    back = error_from_rpc(sent(errors.InvalidRequest(many)))
    assert isinstance(back, errors.InvalidRequest)
    assert back.violations == tuple(many[:MAX_VIOLATIONS])
    assert back.total == 200


def test_20_long_violations_of_text_that_is_not_ascii_stay_below_8_kib() -> None:
    long = [Violation(f"events[{i}].{'ж' * 500}", "é日本🎬" * 500) for i in range(20)]
    error = errors.InvalidRequest(long)
    assert wire_bytes(error) < 8192
    back = error_from_rpc(sent(error))
    assert isinstance(back, errors.InvalidRequest)
    assert [v.field[:10] for v in back.violations] == [v.field[:10] for v in long]


texts = st.text(st.characters(), max_size=3000)  # lone surrogates and control characters too


@given(
    message=texts,
    reason=texts,
    metadata=st.dictionaries(texts, texts, max_size=20),
    violations=st.lists(st.builds(Violation, texts, texts), min_size=1, max_size=25),
)
def test_whatever_the_texts_are_the_trailers_stay_below_8_kib(
    message: str, reason: str, metadata: dict[str, str], violations: list[Violation]
) -> None:
    rejected = errors.InvalidRequest(violations)
    rejected.metadata.update(metadata)
    for error in (TallyError(message, reason=reason, metadata=metadata), rejected):
        assert wire_bytes(error) < 8192
        assert details_of(error).message == abort_details(error)[1]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.OUT_OF_RANGE, errors.OutOfRange),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNKNOWN, errors.ServerFault),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.ServerFault),
        (grpc.StatusCode.DATA_LOSS, errors.DataLoss),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
    ],
)
def test_a_status_without_details_is_read_by_its_code(code: grpc.StatusCode, kind: type[TallyError]) -> None:
    bare = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "said by gRPC")
    back = error_from_rpc(bare)
    assert type(back) is kind
    assert back.message == "said by gRPC"


def test_unreadable_details_do_not_hide_the_code_and_the_message() -> None:
    garbled = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff"))
    back = error_from_rpc(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, None, garbled, "away"))
    assert type(back) is errors.Unavailable
    assert back.message == "away"


def test_details_of_another_domain_are_not_taken_for_ours() -> None:
    status = status_pb2.Status()
    foreign = error_details_pb2.ErrorInfo(reason="NOT_READY", domain="example.com")
    status.details.add().Pack(foreign)
    trailers = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, None, trailers, "theirs")
    assert type(error_from_rpc(error)) is errors.ServerFault
