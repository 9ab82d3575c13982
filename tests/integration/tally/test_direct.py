"""Direct mode against peers: what goes to the shards, what to the partitioner, and what the caller is told."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue

from tally.client import (
    Client,
    ClientUnusable,
    Durability,
    Event,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    Receipt,
    RequestIdReused,
    blocking,
)
from tally.client.request_id import RequestIds
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.counting.v1 import counting_pb2 as pb
from tally.counting.v1.counting_pb2 import AppendRequest, AppendResponse
from tally.ingest.v1.ingest_pb2 import GetPartitionMapResponse, ShardPartitions
from tests.integration.tally.peer import Peer, bad_request, error_info, open_peer, retry_after
from tests.support.eventually import eventually
from tests.support.peer import never_answer, pass_by, refuse

IDENTITY = ClusterIdentity(cluster_id="a cluster", epoch=2, partition_count=4)
EVENTS = [Event(f"video {n}") for n in range(100)]


@dataclass
class Cluster:
    """A partitioner and two shards, which lead two partitions each."""

    partitioner: Peer
    shards: Sequence[Peer]

    def tell(self, version: str, *leading: tuple[str, Sequence[int]]) -> None:
        """What the partitioner says from now on."""
        self.partitioner.answers["GetPartitionMap"] = GetPartitionMapResponse(
            partition_count=4,
            version=version,
            shards=[ShardPartitions(address=address, partitions=led) for address, led in leading],
            cluster=IDENTITY,
        )

    @property
    def calls(self) -> tuple[int, int, int]:
        """Batches that the partitioner was sent, and appends that each shard was."""
        rpcs = [received.rpc for received in self.partitioner.received]
        return rpcs.count("ProcessEvents"), *(len(shard.received) for shard in self.shards)  # type: ignore[return-value]  # two

    def payloads(self) -> set[bytes]:
        """Of the batches that the partitioner was sent."""
        return {each.payload for each in self.partitioner.received if each.rpc == "ProcessEvents"}


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_peer() as partitioner, open_peer() as a, open_peer() as b:
        cluster = Cluster(partitioner, (a, b))
        cluster.tell("1", (a.address, [0, 1]), (b.address, [2, 3]))
        yield cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with Client(cluster.partitioner.address, transport="direct") as client:
        yield client


def outcomes(*numbers: pb.Outcome) -> AppendResponse:
    return AppendResponse(outcomes=numbers)


async def test_a_batch_goes_to_its_shards_and_not_to_the_partitioner(
    client: Client, cluster: Cluster
) -> None:
    receipt = await client.process_many(EVENTS)
    await client.count("video 1")
    assert receipt == Receipt(receipt.request_id, 100, 0, Durability.JOURNALED)
    assert [received.rpc for received in cluster.partitioner.received] == ["GetPartitionMap"]
    sent = [AppendRequest.FromString(shard.received[0].payload) for shard in cluster.shards]
    assert [{entry.partition for entry in request.entries} for request in sent] == [{0, 1}, {2, 3}]
    assert [request.cluster for request in sent] == [IDENTITY, IDENTITY]
    assert sum(len(shard.received) for shard in cluster.shards) == 3


async def test_what_a_shard_of_another_cluster_refuses_the_partitioner_gets(
    client: Client, cluster: Cluster
) -> None:
    other = refuse(grpc.StatusCode.FAILED_PRECONDITION, "another cluster", error_info("CLUSTER_MISMATCH"))
    cluster.shards[1].turns.append(other)
    receipt = await client.process_many(EVENTS)
    assert receipt.accepted_count + receipt.duplicate_count == 100
    assert cluster.calls == (1, 1, 1)


async def test_a_map_without_an_identity_is_none(client: Client, cluster: Cluster) -> None:
    """That of an older partitioner: its shards would take what another cluster's would take as well."""
    cluster.tell("1", (cluster.shards[0].address, [0, 1, 2, 3]))
    answer = cluster.partitioner.answers["GetPartitionMap"]
    assert isinstance(answer, Message)
    answer.ClearField("cluster")
    await client.process_many(EVENTS)
    assert cluster.calls == (1, 0, 0)


async def test_a_receipt_counts_as_that_of_the_partitioner_does(client: Client, cluster: Cluster) -> None:
    a, b = cluster.shards
    a.answers["Append"] = outcomes(pb.OUTCOME_DUPLICATE, pb.OUTCOME_JOURNALED)
    b.answers["Append"] = outcomes(pb.OUTCOME_SPOOLED, pb.OUTCOME_JOURNALED)
    receipt = await client.process_many(EVENTS)
    first = AppendRequest.FromString(a.received[0].payload).entries[0]
    assert receipt.duplicate_count == first.event_count > 0
    assert receipt.accepted_count == 100 - first.event_count
    assert receipt.durability is Durability.SPOOLED
    assert cluster.calls == (0, 1, 1)


@pytest.mark.parametrize(
    "garbage", [BytesValue(value=b"\x80"), BytesValue()], ids=["does not parse", "of nothing"]
)
async def test_after_an_answer_that_cannot_be_read_the_batch_goes_to_the_partitioner(
    client: Client, cluster: Cluster, garbage: BytesValue
) -> None:
    cluster.shards[1].answers["Append"] = garbage
    receipt = await client.process_many(EVENTS)
    assert receipt.accepted_count == 100
    assert cluster.calls == (1, 1, 1)


@pytest.mark.exact
@pytest.mark.parametrize(
    "outcome",
    [
        pb.OUTCOME_UNSPECIFIED,
        pb.OUTCOME_BELOW_FLOOR,
        pb.OUTCOME_CONTENT_MISMATCH,
        pb.OUTCOME_INVALID,
        pb.OUTCOME_UNAVAILABLE,
    ],
)
async def test_whatever_is_not_durable_the_partitioner_judges_and_nobody_else(
    client: Client, cluster: Cluster, outcome: pb.Outcome
) -> None:
    cluster.shards[1].answers["Append"] = outcomes(pb.OUTCOME_JOURNALED, outcome)
    receipt = await client.process_many(EVENTS)
    assert cluster.calls == (1, 1, 1)
    (entry, *_) = AppendRequest.FromString(cluster.shards[0].received[0].payload).entries
    (payload,) = cluster.payloads()
    assert receipt.request_id.replace("-", "") == entry.request_id.hex()
    assert receipt.request_id.encode() in payload


@pytest.mark.exact
async def test_a_refusal_of_what_may_be_counted_in_part_leaves_the_outcome_unknown(
    client: Client, cluster: Cluster
) -> None:
    """One shard has journaled its half; then nobody may be told that nothing was counted."""
    cluster.shards[1].answers["Append"] = outcomes(pb.OUTCOME_BELOW_FLOOR, pb.OUTCOME_BELOW_FLOOR)
    now_us = str(time.time_ns() // 1000)
    late = refuse(
        grpc.StatusCode.OUT_OF_RANGE,
        "old",
        error_info("OUT_OF_RANGE", server_time_us=now_us),
        bad_request(request_id="is older than 24 hours"),
    )
    await client.process_many(EVENTS[:1])  # the map is known
    cluster.partitioner.turns.extend([late] * 8)
    with pytest.raises(OutcomeUnknown, match="a part of the request may have been counted") as raised:
        await client.process_many(EVENTS, request_id=client.make_request_id())
    assert raised.value.reason == "OUT_OF_RANGE"
    assert len(cluster.payloads()) == 1


@pytest.mark.exact
async def test_an_id_that_no_shard_takes_is_made_anew_by_the_services_time(cluster: Cluster) -> None:
    now_us = time.time_ns() // 1000
    ids = RequestIds(now_us=lambda: now_us + 3_600_000_000)
    for shard in cluster.shards:
        shard.turns.append(refuse(grpc.StatusCode.INVALID_ARGUMENT, "ahead", error_info("INVALID_REQUEST")))
    details = error_info("OUT_OF_RANGE", server_time_us=str(now_us)), bad_request(request_id="is ahead")
    async with Client(cluster.partitioner.address, transport="direct", request_ids=ids) as client:
        await client.partition_map()
        cluster.partitioner.turns.extend([pass_by, refuse(grpc.StatusCode.OUT_OF_RANGE, "ahead", *details)])
        receipt = await client.process_many(EVENTS)
    assert receipt.accepted_count == 100
    assert cluster.calls == (1, 2, 2)
    first, second = (AppendRequest.FromString(each.payload) for each in cluster.shards[0].received)
    assert first.entries[0].request_id != second.entries[0].request_id
    assert [e.payload for e in first.entries] == [e.payload for e in second.entries]


async def test_the_delay_of_an_overloaded_shard_is_kept_and_the_partitioner_is_left_alone(
    client: Client, cluster: Cluster
) -> None:
    busy = refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", error_info("OVERLOADED"), retry_after(0.3))
    cluster.shards[1].turns.append(busy)
    await client.process_many(EVENTS)
    assert cluster.calls == (0, 2, 2)
    first, second = cluster.shards[1].received
    assert first.payload == second.payload
    assert second.at - first.at >= 0.3
    cluster.shards[1].turns.append(
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", error_info("OVERLOADED"), retry_after(60))
    )
    with pytest.raises(Overloaded):
        await client.process_many(EVENTS)


@pytest.mark.exact
async def test_a_part_that_was_refused_at_the_door_says_nothing_of_the_others(
    client: Client, cluster: Cluster
) -> None:
    await client.process_many(EVENTS)  # the map is known
    a, b = cluster.shards
    info = error_info("OVERLOADED", nothing_done="true")
    shed = refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", info, retry_after(60))
    away = refuse(grpc.StatusCode.UNAVAILABLE, "away")
    for turns, counted_nothing in (
        ([(a, shed), (b, shed)], True),
        ([(b, shed)], False),
        ([(b, away), (cluster.partitioner, shed)], False),
    ):
        for peer, turn in turns:
            peer.turns.append(turn)
        with pytest.raises(Overloaded) as raised:
            await client.process_many(EVENTS)
        assert raised.value.counted_nothing is counted_nothing
        assert not any(peer.turns for peer, _ in turns)


async def test_a_shard_that_cannot_be_reached_rests_and_the_partitioner_serves(
    client: Client, cluster: Cluster
) -> None:
    a, _ = cluster.shards
    cluster.tell("1", (a.address, [0, 1]), ("127.0.0.1:1", [2, 3]))
    for _ in range(3):
        assert (await client.process_many(EVENTS)).accepted_count == 100
    assert cluster.calls == (3, 1, 0)


async def test_a_new_map_is_asked_for_after_a_failure_and_followed(client: Client, cluster: Cluster) -> None:
    a, b = cluster.shards
    cluster.tell("1", ("127.0.0.1:1", [0, 1, 2]), (a.address, [3]))
    await client.process_many(EVENTS)
    cluster.tell("2", (b.address, [0, 1, 2, 3]))

    async def is_direct() -> bool:
        await client.process_many(EVENTS)
        return bool(b.received)

    await eventually(is_direct)
    served, to_a, to_b = cluster.calls
    await client.process_many(EVENTS)
    assert cluster.calls == (served, to_a, to_b + 1)


async def test_a_silent_shard_that_the_map_has_lost_is_given_up(client: Client, cluster: Cluster) -> None:
    a, b = cluster.shards
    await client.process_many(EVENTS)
    b.turns.append(never_answer)
    cluster.tell("2", (a.address, [0, 1, 2, 3]))
    began = time.monotonic()
    await client.process_many(EVENTS, timeout=60)  # of which 8 s would be for the shards
    assert time.monotonic() - began < 7.5
    assert cluster.calls == (1, 2, 2)


async def test_a_shard_that_is_silent_leaves_time_for_the_partitioner(
    client: Client, cluster: Cluster
) -> None:
    cluster.shards[0].turns.append(never_answer)
    await client.process_many(EVENTS, timeout=3)
    assert cluster.calls == (1, 1, 1)
    await client.process_many(EVENTS)
    assert cluster.calls == (2, 1, 1)


async def test_a_caller_in_a_hurry_gives_no_shard_a_bad_name(client: Client, cluster: Cluster) -> None:
    await client.process_many(EVENTS)
    cluster.shards[0].turns.append(never_answer)
    await client.process_many(EVENTS, timeout=1.9)
    await client.process_many(EVENTS)
    assert cluster.calls == (1, 3, 3)


@pytest.mark.exact
async def test_shards_that_have_another_partition_count_refuse_and_the_partitioner_serves(
    client: Client, cluster: Cluster
) -> None:
    for shard in cluster.shards:
        shard.turns.append(
            refuse(grpc.StatusCode.FAILED_PRECONDITION, "no", error_info("PARTITION_COUNT_MISMATCH"))
        )
    for _ in range(2):
        await client.process_many(EVENTS)
    assert cluster.calls == (2, 1, 1)
    assert len(cluster.payloads()) == 2


async def test_without_a_map_the_partitioner_serves(cluster: Cluster) -> None:
    cluster.partitioner.turns.append(refuse(grpc.StatusCode.UNIMPLEMENTED))
    async with Client(cluster.partitioner.address, transport="direct") as client:
        await client.process_many(EVENTS)
        cluster.tell("1")
        await client.process_many(EVENTS)
    assert cluster.calls == (2, 0, 0)


async def test_what_is_against_the_rules_is_refused_by_the_partitioner_alone(
    client: Client, cluster: Cluster
) -> None:
    await client.count("v")
    details = error_info("INVALID_REQUEST"), bad_request(**{"columns.event_types[0]": "no"})
    cluster.partitioner.turns.append(refuse(grpc.StatusCode.INVALID_ARGUMENT, "no", *details))
    with pytest.raises(InvalidRequest):
        await client.process_many([*EVENTS, Event("v", "A Like")])
    assert sum(len(shard.received) for shard in cluster.shards) == 1


async def test_an_id_used_for_other_events_is_told_as_such(client: Client, cluster: Cluster) -> None:
    await client.count("v")
    mismatch = pb.OUTCOME_CONTENT_MISMATCH
    for shard in cluster.shards:
        shard.answers["Append"] = outcomes(mismatch, mismatch)
    reused = error_info("REQUEST_ID_REUSED")
    cluster.partitioner.turns.append(refuse(grpc.StatusCode.INVALID_ARGUMENT, "no", reused))
    with pytest.raises(RequestIdReused):
        await client.process_many(EVENTS, request_id=client.make_request_id())


async def test_closing_ends_what_is_under_way_as_without_an_answer(cluster: Cluster) -> None:
    async def use() -> set[str]:
        async with Client(cluster.partitioner.address, transport="direct", timeout=0.3) as client:
            await client.process_many(EVENTS, timeout=5)
            cluster.shards[0].turns.append(never_answer)
            cluster.partitioner.turns.append(never_answer)
            for event in EVENTS:
                await client.submit_event(event)
            with pytest.raises(OutcomeUnknown):
                await client.close()
            with pytest.raises(ClientUnusable):
                await client.process_many(EVENTS)
        await asyncio.sleep(0)
        return {repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    # On a loop of its own, for the peers have tasks too.
    assert await asyncio.to_thread(asyncio.run, use()) == set()


async def test_without_its_package_direct_mode_says_what_to_install(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("direct", "entries"):
        monkeypatch.delitem(sys.modules, f"tally.client.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "xxhash", None)  # so Python marks what cannot be imported
    with pytest.raises(ClientUnusable, match=r"needs the package xxhash: pip install xxhash"):
        async with Client(cluster.partitioner.address, transport="direct"):
            pass

    def open_blocking() -> None:
        with blocking.Client(cluster.partitioner.address, transport="direct"):
            pass

    with pytest.raises(ClientUnusable, match=r"pip install xxhash"):
        await asyncio.to_thread(open_blocking)
    async with Client(cluster.partitioner.address) as client:
        await client.count("v")


async def test_the_blocking_client_goes_the_direct_way_too(cluster: Cluster) -> None:
    def use() -> None:
        with blocking.Client(cluster.partitioner.address, transport="direct") as client:
            for event in EVENTS:
                client.submit_event(event)
            client.flush()

    await asyncio.to_thread(use)
    served, *by_shard = cluster.calls
    assert served == 0
    assert all(by_shard)
