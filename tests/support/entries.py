"""Requests as the shards see them: entries, made of counts of events by (video, event type)."""

import time
import uuid
from collections import Counter
from collections.abc import Mapping

import grpc
import numpy as np
import xxhash

from libs.domain.entry import Entry, signed
from libs.domain.events import Events
from libs.domain.minutes import MINUTE_US
from libs.domain.partition import cut, partition_of
from libs.rpc.columns import decode, encode
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.request_id import make_request_id
from tally.contract.rules import EARLIEST_EVENT_US
from tally.counting.v1 import counting_pb2 as pb
from tally.counting.v1.counting_pb2_grpc import CountingServiceStub
from tally.ingest.v1.ingest_pb2 import EventColumns
from tests.support.database import PARTITION_COUNT
from tests.support.reach import open_channel

Counts = Mapping[tuple[str, str], int]
"""events by (video, event type)"""


def new_id() -> uuid.UUID:
    """A request id of now."""
    return make_request_id(time.time_ns() // 1_000_000)


def events_of(counts: Counts) -> Events:
    """The events as a batch, in the order of the counts."""
    videos = list(dict.fromkeys(video for video, _ in counts))
    types = list(dict.fromkeys(event_type for _, event_type in counts))
    repeat = list(counts.values())
    return Events(
        video_ids=videos,
        event_types=types,
        actor_ids=[],
        video_index=np.repeat([videos.index(video) for video, _ in counts], repeat).astype(np.uint16),
        event_type_index=np.repeat([types.index(name) for _, name in counts], repeat).astype(np.uint16),
    )


def counts_of(events: Events) -> Counter[tuple[str, str]]:
    """The other way."""
    return Counter(
        (events.video_ids[video], events.event_types[event_type])
        for video, event_type in zip(events.video_index, events.event_type_index, strict=True)
    )


def cut_request(counts: Counts, request_id: uuid.UUID | None = None) -> list[pb.Entry]:
    """The entries of one request, as the partitioner sends them."""
    chosen = request_id or new_id()
    return [
        pb.Entry(
            request_id=chosen.bytes,
            partition=partition,
            request_hash=xxhash.xxh3_64_intdigest(repr(sorted(counts.items())).encode()),
            event_count=len(part),
            payload=encode(part).SerializeToString(),
        )
        for partition, part in cut(events_of(counts), PARTITION_COUNT)
    ]


def as_entry(sent: pb.Entry) -> Entry:
    """An entry as the shard holds it once it was read."""
    return Entry(
        request_id=uuid.UUID(bytes=sent.request_id),
        partition=sent.partition,
        request_hash=signed(sent.request_hash),
        payload=sent.payload,
        events=decode(EventColumns.FromString(sent.payload)),
    )


async def append(address: str, entries: list[pb.Entry], timeout_seconds: float = 15.0) -> list[int]:
    """Send entries to a shard; the outcome of each. Raises grpc.aio.AioRpcError."""
    async with open_channel(address) as channel:
        request = pb.AppendRequest(cluster=await ask_identity(channel), entries=entries)
        response = await CountingServiceStub(channel).Append(request, timeout=timeout_seconds)
        return list(response.outcomes)


async def ask_identity(channel: grpc.aio.Channel) -> ClusterIdentity:
    """The identity that calls to this shard must carry. Raises grpc.aio.AioRpcError."""
    response = await CountingServiceStub(channel).GetCluster(pb.GetClusterRequest(), timeout=10)
    return response.cluster


def spread_over_minutes(video_id: str, minutes: int) -> Entry:
    """One entry of one video, with a view in each of so many minutes: as many cells as events."""
    return as_entry(spread_on_the_wire(video_id, minutes))


def spread_on_the_wire(video_id: str, minutes: int) -> pb.Entry:
    """The same, as it is sent."""
    none = np.zeros(minutes, np.uint16)
    times = (np.arange(minutes, dtype=np.int64) + EARLIEST_EVENT_US // MINUTE_US) * MINUTE_US
    request_id = new_id()
    return pb.Entry(
        request_id=request_id.bytes,
        partition=partition_of(video_id, PARTITION_COUNT),
        request_hash=xxhash.xxh3_64_intdigest(request_id.bytes),
        event_count=minutes,
        payload=encode(Events([video_id], ["view"], [], none, none, None, times)).SerializeToString(),
    )
