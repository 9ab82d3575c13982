"""The entries of the client against those of the partitioner itself, for the same bytes."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain import entry
from libs.rpc.admission import Admission
from libs.rpc.columns import decode, encode
from libs.telemetry.setup import OFF
from services.counting.journal.wire import Wire
from services.partitioner.intake.door import Door
from services.partitioner.intake.ingest import Ingest
from services.partitioner.routing.wire import write_entry
from services.partitioner.servicer import IngestServicer
from tally.client._delivery.entries import cut
from tally.client.columns import Batch, Columns
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.errors import TallyError
from tally.contract.request_id import make_request_id
from tally.contract.rules import EARLIEST_EVENT_US
from tally.counting.v1.counting_pb2 import AppendRequest, Entry
from tally.ingest.v1.ingest_pb2 import EventColumns, ProcessEventsRequest
from tests.support.clock import Clock
from tests.unit.libs.domain.batches import MODEST, ROWS, Row, batch_of, rows_of

NOW_US = 4_000_000_000_000_000
ID = make_request_id(NOW_US // 1000)
MANY_TYPES = st.builds(
    Row,
    video_id=st.sampled_from("abcdef"),
    event_type=st.integers(0, 99).map("type-{}".format),
    actor_id=st.none(),
    time_us=st.none(),
    value=st.none(),
)
MINUTE_US = 60_000_000


class Router:
    """Keeps the entries that it is given, as they are sent."""

    entries: list[Entry]

    def __init__(self, partition_count: int) -> None:
        self.partition_count = partition_count

    async def append(self, entries: list[entry.Entry]) -> list[entry.Outcome]:
        self.entries = [write_entry(each) for each in entries]
        return [entry.Outcome.JOURNALED] * len(entries)


def partitioners_entries(payload: bytes, partition_count: int) -> list[Entry]:
    """What the partitioner makes of the bytes of a request. Raises TallyError."""
    router, clock = Router(partition_count), Clock()
    clock.seconds = NOW_US // 1_000_000
    shards: Any = router
    servicer = IngestServicer(
        Admission(1 << 30), Door(clock), Ingest(shards, clock, OFF), shards, 1, ClusterIdentity()
    )
    context: Any = None
    with suppress(StopIteration):  # it waits for nothing, so it needs no loop
        servicer.ProcessEvents(ProcessEventsRequest.FromString(payload), context).send(None)
    return router.entries


def columns_of(rows: list[Row], spare: tuple[str, ...] = ()) -> Columns:
    """The rows as a caller with arrays would lay them out."""
    message = encode(batch_of(rows, spare))
    return Columns(
        video_ids=tuple(message.video_ids),
        event_types=tuple(message.event_types),
        video_index=message.video_index,
        event_type_index=message.event_type_index,
        actor_ids=tuple(message.actor_ids),
        actor_index=message.actor_index,
        event_time_us=message.event_time_us,
        value=message.value,
    )


@pytest.mark.exact
@MODEST
@given(
    st.lists(ROWS | MANY_TYPES, min_size=1, max_size=60),
    st.sampled_from([(), ("spare", "b")]),
    st.sampled_from([1, 4, 16, 64]),
)
def test_the_entries_are_the_partitioners_to_the_byte(
    rows: list[Row], spare: tuple[str, ...], partition_count: int
) -> None:
    batch = Batch(str(ID), columns_of(rows, spare))
    entries = cut(batch, partition_count)
    assert entries == partitioners_entries(batch.payload, partition_count)
    events = [row for entry in entries for row in rows_of(decode(EventColumns.FromString(entry.payload)))]
    assert sorted(map(repr, events)) == sorted(map(repr, rows))


@pytest.mark.parametrize("count", [1, 16])
def test_a_large_request_is_cut_the_same_way(count: int) -> None:
    rows = [
        Row(f"video {n * n % 7001}", f"type-{n * n % 7001}", f"actor {n % 4000}", NOW_US - n, float(n))
        for n in range(20_000)
    ]
    batch = Batch(str(ID), columns_of(rows))
    assert cut(batch, count) == partitioners_entries(batch.payload, count)


def test_a_shard_takes_the_entries() -> None:
    batch = Batch(str(ID), columns_of([Row(f"video {n}", value=1.0, event_type="like") for n in range(99)]))
    entries = cut(batch, 16)
    clock = Clock(NOW_US // 1_000_000)
    read = Wire(16, clock).read_entries(AppendRequest(entries=entries))
    assert sum(len(entry.events) for entry in read) == 99


GOOD = {
    "request_id": str(ID),
    "video_ids": ("a", "b"),
    "event_types": ("view", "like"),
    "actor_ids": ("me",),
    "video_index": b"\0\0\1\0",
    "event_type_index": b"\1\0\0\0",
    "actor_index": b"\0\0\xff\xff",
    "event_time_us": (NOW_US - 1).to_bytes(8, "little") * 2,
    "value": bytes(16),
}
STRANGE_INDEX = [b"", b"\0", b"\0\0", b"\0\0\2\0", b"\xff\xff\0\0", bytes(6)]
STRANGE: dict[str, list[Any]] = {
    "request_id": ["", "x", str(ID).upper(), "1ec9414c-232a-4b00-b3c8-9f6bdeced846"],
    "video_ids": [(), ("a",), ("", "b"), ("a", "b\n"), ("a", "é" * 65), ("a", "b", "c", "\0"), ("a", "a")],
    "event_types": [(), ("view",), ("A", "view"), ("view", ""), ("view", "like", "no no")],
    "actor_ids": [(), ("x" * 129,), ("",), ("me", "x" * 129)],
    "video_index": STRANGE_INDEX,
    "event_type_index": STRANGE_INDEX,
    "actor_index": STRANGE_INDEX,
    "event_time_us": [b"", bytes(16), bytes(8), b"\xff" * 15, bytes(7) + b"\x80" + bytes(7) + b"\x80"],
    "value": [b"", bytes(8), b"\xff" * 16, bytes(14) + b"\xf0\x7f", bytes(14) + b"\x50\xc3", b"\xff" * 7],
}
FAULTS = [{name: fault} for name, faults in STRANGE.items() for fault in faults]


@pytest.mark.exact
@pytest.mark.parametrize("first", FAULTS, ids=lambda fault: next(iter(fault)))
def test_what_the_partitioner_refuses_goes_to_no_shard(first: dict[str, Any]) -> None:
    """A shard sees a part of a request: it could count that, while another refuses the rest."""
    for second in [{}, *FAULTS]:
        columns = GOOD | second | first
        batch = Batch(columns.pop("request_id"), Columns(**columns))
        try:
            expected = partitioners_entries(batch.payload, 4)
        except TallyError:
            expected = []
        if expected and batch.request_id:  # without an id the partitioner makes one
            assert cut(batch, 4) == expected
        else:
            with pytest.raises(ValueError):  # noqa: PT011 - of any kind
                cut(batch, 4)


@pytest.mark.parametrize(
    "row",
    [
        Row("a", "view", time_us=EARLIEST_EVENT_US - 1),
        Row("a", "view", time_us=NOW_US + 2 * MINUTE_US),
        Row("a", "view", value=2.0**53 + 2),
        Row("a", "View"),
        Row("", "view"),
        Row("a", "view", "x" * 129),
    ],
)
def test_one_bad_event_sends_all_of_them_to_the_partitioner(row: Row) -> None:
    rows = [Row(f"video {n}", "view") for n in range(50)]
    assert cut(Batch(str(ID), columns_of(rows)), 16)
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        cut(Batch(str(ID), columns_of([*rows, row])), 16)
