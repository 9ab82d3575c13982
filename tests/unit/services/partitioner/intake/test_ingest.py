"""A request becomes entries, and their outcomes a receipt."""

from typing import Any

import pytest

from libs.domain.entry import Entry, Outcome
from libs.domain.partition import partition_of
from libs.rpc.columns import decode
from libs.telemetry.setup import OFF
from services.partitioner.intake.ingest import Ingest
from services.partitioner.routing.wire import write_entry
from tally.contract.errors import OutOfRange, RequestIdReused, TallyError
from tally.contract.request_id import make_request_id
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.support.clock import Clock
from tests.unit.libs.domain.batches import Row, batch_of, rows_of

ID = make_request_id(1_800_000_000_000)
ROWS = [Row(f"video {n % 13}", "view", value=float(n)) for n in range(60)]
PARTITIONS = 4


class Router:
    """Keeps the entries, and answers them in the order of their partitions."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.partition_count = PARTITIONS
        self._outcomes = outcomes
        self.appended: list[list[Entry]] = []

    async def append(self, entries: list[Entry]) -> list[Outcome]:
        self.appended.append(entries)
        return list(self._outcomes or [Outcome.JOURNALED] * len(entries))


def ingest_with(router: Any) -> Ingest:
    return Ingest(router, Clock(), OFF)


async def test_the_entries_hold_every_event_once_in_its_partition() -> None:
    router = Router()
    counted = await ingest_with(router).append(ID, 7, batch_of(ROWS))
    assert (counted.accepted, counted.duplicate) == (60, 0)
    (entries,) = router.appended
    kept = []
    for entry in entries:
        rows = rows_of(decode(EventColumns.FromString(entry.payload)))
        assert (entry.request_id, entry.request_hash, len(entry.events)) == (ID, 7, len(rows))
        assert {partition_of(row.video_id, PARTITIONS) for row in rows} == {entry.partition}
        kept += rows
    assert sorted(kept) == sorted(ROWS)


async def test_a_retry_sends_the_same_entries() -> None:
    router = Router()
    for rows in (ROWS, ROWS, [ROWS[0]], [ROWS[0]]):
        await ingest_with(router).append(ID, 7, batch_of(rows))
    one, same, single, same_single = [[write_entry(entry) for entry in sent] for sent in router.appended]
    assert one == same
    assert single == same_single


async def test_what_one_entry_had_counted_before_is_a_duplicate() -> None:
    router = Router(Outcome.JOURNALED, Outcome.DUPLICATE, Outcome.JOURNALED, Outcome.DUPLICATE)
    counted = await ingest_with(router).append(ID, 7, batch_of(ROWS))
    sizes = [len(entry.events) for entry in router.appended[0]]
    assert (counted.accepted, counted.duplicate) == (sizes[0] + sizes[2], sizes[1] + sizes[3])


J = Outcome.JOURNALED


@pytest.mark.parametrize(
    ("outcomes", "error"),
    [
        ((J, J, Outcome.CONTENT_MISMATCH, J), RequestIdReused),
        ((Outcome.BELOW_FLOOR,) * 4, OutOfRange),
        (
            (J, J, Outcome.BELOW_FLOOR, J),
            TallyError,
        ),  # not "not counted": under a new id a part would count twice
        ((Outcome.BELOW_FLOOR, Outcome.DUPLICATE, Outcome.BELOW_FLOOR, Outcome.BELOW_FLOOR), TallyError),
        ((Outcome.BELOW_FLOOR, Outcome.CONTENT_MISMATCH, J, J), RequestIdReused),
        ((J, J, J, Outcome.INVALID), TallyError),
        ((J, J, J, 0), TallyError),
        ((J, J, J, 99), TallyError),  # of a shard that is newer
    ],
)
async def test_one_entry_that_is_not_durable_makes_no_receipt(outcomes: Any, error: type[TallyError]) -> None:
    with pytest.raises(TallyError) as caught:
        await ingest_with(Router(*outcomes)).append(ID, 7, batch_of(ROWS))
    assert type(caught.value) is error


async def test_a_request_of_which_a_part_is_spooled_is_durable_and_says_so() -> None:
    counted = await ingest_with(Router(J, J, J, Outcome.SPOOLED)).append(ID, 7, batch_of(ROWS))
    assert (counted.accepted, counted.duplicate, counted.spooled) == (60, 0, True)
    counted = await ingest_with(Router()).append(ID, 7, batch_of(ROWS))
    assert not counted.spooled


async def test_below_the_floor_the_servers_time_is_told() -> None:
    with pytest.raises(OutOfRange) as caught:
        await ingest_with(Router(Outcome.BELOW_FLOOR)).append(ID, 7, batch_of([ROWS[0]]))
    assert caught.value.metadata["server_time_us"] == "1000000000"
    assert "not counted by this attempt" in caught.value.message
