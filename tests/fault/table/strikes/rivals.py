"""Two shards that both believe that they lead a partition."""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence

import grpc
import xxhash

from libs.domain.partition import partition_of
from tally.client import Durability
from tally.counting.v1 import counting_pb2 as pb
from tally.counting.v1.counting_pb2_grpc import CountingServiceStub
from tests.fault.table.ledger import Key, Request
from tests.fault.table.requests import columns_of, draw_request
from tests.fault.table.scene import Scene
from tests.support.entries import ask_identity
from tests.support.reach import open_channel

_ROUNDS = 40
_REQUESTS = 8


async def feed_two_shards(scene: Scene) -> None:
    """The same entries at the same time, to one in their order and to the other from behind."""
    addresses = scene.chance.sample(scene.deployment.doors.shards, 2)
    scene.strike()
    async with (
        open_channel(addresses[0]) as one,
        open_channel(addresses[1]) as other,
    ):
        for _ in range(_ROUNDS):
            requests = [draw_request(scene.chance, scene.prefix) for _ in range(_REQUESTS)]
            for request in requests:
                scene.load.ledger.send(request)
            entries = [
                entry
                for request in requests
                for entry in entries_of(request, scene.deployment.doors.partition_count)
            ]
            forth, back = await asyncio.gather(append(one, entries), append(other, entries[::-1]))
            outcomes = list(zip(forth, back[::-1], strict=True))
            twice = sum(pair == (pb.OUTCOME_JOURNALED, pb.OUTCOME_JOURNALED) for pair in outcomes)
            scene.expect(not twice, f"{twice} entries were journaled by both shards")
            acknowledge(scene, requests, entries, outcomes)
            await scene.pause(0, 0.05)


def acknowledge(
    scene: Scene,
    requests: Sequence[Request],
    entries: Sequence[pb.Entry],
    outcomes: Sequence[Sequence[int]],
) -> None:
    """Note for each request what all answers to its entries together say; several answers for each entry."""
    accepted: Counter[str] = Counter()
    failed: set[str] = set()
    for entry, answers in zip(entries, outcomes, strict=True):
        request_id = str(uuid.UUID(bytes=entry.request_id))
        accepted[request_id] += entry.event_count * (pb.OUTCOME_JOURNALED in answers)
        if not {pb.OUTCOME_JOURNALED, pb.OUTCOME_DUPLICATE}.intersection(answers):
            failed.add(request_id)
    for request in requests:
        if request.request_id not in failed:
            duplicate = request.event_count - accepted[request.request_id]
            scene.load.ledger.acknowledge(
                request, accepted[request.request_id], duplicate, Durability.JOURNALED
            )


def entries_of(request: Request, partition_count: int) -> list[pb.Entry]:
    """The entries of a request, as a client cuts them that sends to the shards itself."""
    parts: defaultdict[int, Counter[Key]] = defaultdict(Counter)
    for (video, kind), count in request.events.items():
        parts[partition_of(video, partition_count)][video, kind] = count
    return [
        pb.Entry(
            request_id=uuid.UUID(request.request_id).bytes,
            partition=partition,
            request_hash=xxhash.xxh3_64_intdigest(request.request_id.encode()),
            event_count=events.total(),
            payload=columns_of(Request("", events)).to_message().SerializeToString(),
        )
        for partition, events in sorted(parts.items())
    ]


async def append(channel: grpc.aio.Channel, entries: Sequence[pb.Entry]) -> Sequence[int]:
    """Send entries to a shard; the outcome of each, UNAVAILABLE where the call failed."""
    try:
        request = pb.AppendRequest(cluster=await ask_identity(channel), entries=entries)
        response = await CountingServiceStub(channel).Append(request, timeout=10)
    except grpc.aio.AioRpcError:
        return [pb.OUTCOME_UNAVAILABLE] * len(entries)
    return list(response.outcomes)
