"""Rows of one region arrive in the other, by each strategy."""

from dataclasses import replace
from typing import Any

import pytest

from services.replication import sender
from services.replication.wire import Packed, compress_batch
from tally.replication.v1 import entries_pb2 as pb
from tally.replication.v1 import replication_pb2
from tests.support.eventually import eventually
from tests.support.regions import TIMEOUT_S, Pair

pytestmark = pytest.mark.asyncio(loop_scope="module")  # all of them share one pair of regions


@pytest.mark.parametrize(
    "strategy",
    [pb.STRATEGY_CHANGE, pb.STRATEGY_BATCH, pb.STRATEGY_NOTIFY, pb.STRATEGY_SNAPSHOT],
    ids=["change", "batch", "notify", "snapshot"],
)
async def test_a_location_arrives_by_each_strategy_and_both_ends_are_equal(
    pair: Pair, strategy: "pb.Strategy"
) -> None:
    location = await pair.owner.put_location()
    committed = await pair.owner.index(location, pair.make_entries(120, seed=strategy), strategy=strategy)
    assert committed.written == 120
    await pair.until_equal()

    async def is_verified() -> bool:
        verdict = await pair.receiver.verdict_of(pair.owner, location)
        assert verdict.verdict != replication_pb2.VERDICT_DIFFERENT
        return bool(verdict.verdict == replication_pb2.VERDICT_EQUAL and verdict.here == verdict.there)

    await eventually(is_verified)
    transfers = await pair.receiver.operators.ListTransfers(
        replication_pb2.ListTransfersRequest(), timeout=TIMEOUT_S
    )
    if strategy in (pb.STRATEGY_NOTIFY, pb.STRATEGY_SNAPSHOT):
        assert strategy in {each.strategy for each in transfers.transfers}


async def test_updates_deletes_and_rows_that_come_again_arrive(pair: Pair) -> None:
    location = await pair.owner.put_location()
    entries = pair.make_entries(300, seed=300)
    await pair.owner.index(location, entries)
    await pair.until_equal()
    gone = [entry.entry_id for entry in entries[:20]]
    await pair.owner.entries.DeleteEntries(
        pb.DeleteEntriesRequest(location_id=location, entry_ids=gone), timeout=TIMEOUT_S
    )
    entries[30].name = "another name"
    again = entries[:5] + entries[30:31]
    answer = await pair.owner.entries.PutEntries(
        pb.PutEntriesRequest(location_id=location, entries=again), timeout=TIMEOUT_S
    )
    assert answer.written == 6
    await pair.until_equal()
    committed = await pair.owner.index(location, entries[100:])
    assert (committed.written, committed.deleted) == (0, 85)
    await pair.until_equal()
    await pair.owner.entries.DeleteLocation(pb.DeleteLocationRequest(location_id=location), timeout=TIMEOUT_S)
    await pair.until_equal()
    entries_left, locations_left = await pair.receiver.received_rows(pair.owner.device)
    assert location not in {str(row["location"]) for row in entries_left}
    assert location not in {str(row["uuid"]) for row in locations_left}


async def test_a_deleted_subtree_is_a_list_of_keys_so_that_what_moved_out_of_it_stays(pair: Pair) -> None:
    """T003-23."""
    location = await pair.owner.put_location()
    entries = pair.make_entries(7, seed=23)
    folder, inner, moved, *files = entries
    inner.parent_id, moved.parent_id = folder.entry_id, inner.entry_id
    for file, parent in zip(files, (folder, inner, moved, moved), strict=True):
        file.parent_id = parent.entry_id
    await pair.owner.index(location, entries)
    await pair.until_equal()
    moved.parent_id = ""
    put = pb.PutEntriesRequest(location_id=location, entries=[moved])
    await pair.owner.entries.PutEntries(put, timeout=TIMEOUT_S)
    deleted = await pair.owner.entries.DeleteEntries(
        pb.DeleteEntriesRequest(location_id=location, entry_ids=[folder.entry_id], with_descendants=True),
        timeout=TIMEOUT_S,
    )
    assert deleted.deleted == 4
    await pair.until_equal()
    rows, _ = await pair.receiver.received_rows(pair.owner.device)
    left = {str(row["uuid"]) for row in rows if str(row["location"]) == location}
    assert left == {moved.entry_id, files[2].entry_id, files[3].entry_id}


async def test_a_lane_that_receives_other_bytes_than_were_sent_stops_after_three_retries(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DATA_LOSS: the frame is requested again, then an operator is told."""
    packed = []

    def pack_wrongly(*arguments: Any) -> Packed:
        packed.append(compress_batch(*arguments))
        return replace(packed[-1], checksum=packed[-1].checksum ^ 1)

    location = await pair.owner.put_location()
    await pair.until_equal()
    with monkeypatch.context() as patch:
        patch.setattr(sender, "compress_batch", pack_wrongly)
        await pair.owner.index(location, pair.make_entries(40, seed=40), strategy=pb.STRATEGY_BATCH)

        async def has_stopped() -> bool:
            region = await pair.receiver.region(pair.owner.device)
            return "stopped after 3 retries" in str(region.problem) and "tally regions add" in region.problem

        await eventually(has_stopped)
        sent = len(packed)
        assert sent >= 4
        await pair.receiver.database.execute("select pg_sleep(0.3)")  # several times the pause before a retry
        assert len(packed) == sent
    await pair.receiver.follow(pair.owner)
    await pair.until_equal()
    assert not (await pair.receiver.region(pair.owner.device)).problem
