"""When a shard is called, when it rests, and when the map is asked for, in virtual time."""

import asyncio
from collections import deque
from typing import Any

import pytest

from tally.client import Cluster, OutcomeUnknown, TallyError
from tally.client._delivery.shards import Shard, Shards
from tally.counting.v1 import counting_pb2 as pb
from tally.ingest.v1.ingest_pb2 import GetPartitionMapResponse, ShardPartitions
from tests.support.virtual_time import in_virtual_time
from tests.unit.tally.transport import unanswered

CLUSTER = Cluster("a cluster", 1, 4)
ENTRY = pb.Entry(partition=1, event_count=1)
JOURNALED = pb.AppendResponse(outcomes=[pb.OUTCOME_JOURNALED])


class Connection:
    """Answers as it is told, after `answer_s` seconds; without being told it answers `usual`."""

    def __init__(self, address: str = "a", usual: Any = JOURNALED) -> None:
        self.address = address
        self.usual = usual
        self.turns: deque[Any] = deque()
        self.asked_at: list[float] = []
        self.answer_s = 0.1
        self.opened: list[Connection] = []
        self.is_closed = False

    async def attempt(self, *_: Any, **__: Any) -> Any:
        self.asked_at.append(asyncio.get_running_loop().time())
        turn = self.turns.popleft() if self.turns else self.usual
        await asyncio.sleep(self.answer_s)
        if isinstance(turn, TallyError):
            raise turn
        return turn

    def to(self, address: str) -> "Connection":
        self.opened.append(Connection(address))
        return self.opened[-1]

    async def close(self, _grace_s: float) -> None:
        self.is_closed = True


def make_shard(*turns: Any) -> Shard:
    connection: Any = Connection()
    connection.turns.extend(turns)
    return Shard(connection, asyncio.get_running_loop().time)


async def call(shard: Shard, timeout_s: float = 5.0) -> None:
    await shard.append(CLUSTER, [ENTRY], timeout_s, "an id")


async def fail(shard: Shard) -> None:
    with pytest.raises(OutcomeUnknown):
        await call(shard)


async def until_rested(shard: Shard) -> float:
    """Wait; how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while shard.is_resting:  # noqa: ASYNC110 - nothing tells, but the clock
        await asyncio.sleep(0.125)
    return loop.time() - began


@in_virtual_time
async def test_a_shard_rests_twice_as_long_after_each_failure_up_to_a_minute() -> None:
    shard = make_shard(*[unanswered()] * 9)
    rests = []
    for _ in range(9):
        await fail(shard)
        rests.append(await until_rested(shard))
    assert rests == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60], abs=0.13)
    await call(shard)
    assert not shard.is_doubted


@in_virtual_time
async def test_calls_that_fail_together_are_one_failure() -> None:
    shard = make_shard(*[unanswered()] * 8)
    await asyncio.gather(*(fail(shard) for _ in range(8)))
    assert await until_rested(shard) == pytest.approx(1, abs=0.13)


@in_virtual_time
async def test_after_its_rest_one_call_finds_out_for_all() -> None:
    shard = make_shard(unanswered())
    await fail(shard)
    await until_rested(shard)
    trial = asyncio.create_task(call(shard))
    await asyncio.sleep(0.05)
    assert shard.is_resting
    await trial
    assert not shard.is_resting


@in_virtual_time
async def test_a_shard_that_cannot_journal_or_answers_for_others_rests_too() -> None:
    shard = make_shard(pb.AppendResponse(outcomes=[pb.OUTCOME_UNAVAILABLE]))
    await call(shard)
    assert shard.is_resting
    shard = make_shard(pb.AppendResponse())
    with pytest.raises(OutcomeUnknown, match="0 entries of 1"):
        await call(shard)
    assert shard.is_resting


def map_of(version: str, *addresses: str) -> GetPartitionMapResponse:
    shards = [ShardPartitions(address=address, partitions=[at]) for at, address in enumerate(addresses)]
    return GetPartitionMapResponse(
        partition_count=4, version=version, shards=shards, cluster=CLUSTER.to_message()
    )


@in_virtual_time
async def test_the_map_is_asked_for_once_at_a_time_and_every_30_seconds() -> None:
    partitioner: Any = Connection(usual=map_of("1", "a", "b"))
    shards = Shards(partitioner)
    found = await asyncio.gather(*(shards.find_leaders(1.0) for _ in range(5)))
    assert {leaders.version for leaders in found if leaders} == {"1"}
    for _ in range(200):
        await shards.find_leaders(1.0)
        await asyncio.sleep(0.5)
    gaps = [
        later - earlier
        for earlier, later in zip(partitioner.asked_at, partitioner.asked_at[1:], strict=False)
    ]
    assert gaps == pytest.approx([30.0] * 3, abs=0.6)
    await shards.close(0)


@in_virtual_time
async def test_after_a_failure_the_map_is_asked_for_each_second_until_it_is_another() -> None:
    partitioner: Any = Connection(usual=map_of("1", "a", "b"))
    shards = Shards(partitioner)
    leaders = await shards.find_leaders(1.0)
    assert leaders is not None
    a, b = leaders.by_partition[0], leaders.by_partition[1]
    connection: Any = a.connection
    connection.turns.append(unanswered())
    await fail(a)
    for _ in range(20):
        await shards.find_leaders(1.0)
        await asyncio.sleep(0.25)
    assert len(partitioner.asked_at) == pytest.approx(6, abs=1)
    partitioner.usual = map_of("2", "a", "c")
    await asyncio.sleep(1)
    await shards.find_leaders(1.0)
    await asyncio.sleep(1)
    leaders = await shards.find_leaders(1.0)
    assert leaders is not None
    assert leaders.by_partition[0] is a
    assert not a.is_doubted
    assert leaders.by_partition[1].connection.address == "c"
    lost: Any = b.connection
    assert lost.is_closed
    await shards.close(0)
    assert all(connection.is_closed for connection in partitioner.opened)


@in_virtual_time
async def test_a_partitioner_without_a_map_is_not_waited_for_long_and_asked_again() -> None:
    partitioner: Any = Connection(usual=unanswered())
    partitioner.answer_s = 4.0
    shards = Shards(partitioner)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await shards.find_leaders(0.5) is None
    assert loop.time() - began == pytest.approx(0.5)
    await asyncio.sleep(1)
    assert await shards.find_leaders(0.5) is None
    assert len(partitioner.asked_at) == 1  # which has no answer yet
    await asyncio.sleep(4)
    partitioner.usual, partitioner.answer_s = map_of("1", "a"), 0.1
    assert await shards.find_leaders(0.5) is not None
    await shards.close(0)
