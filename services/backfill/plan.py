"""A plan: the events of a bucket that must be counted, cut into requests of fixed bytes. Pure.

The same events, counted set and partition count make the same plan. Its object holds the hashes of its events, sorted,
and behind them the bytes of its shipments, one after the other.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.domain.events import Events
from libs.domain.partition import partitions_of
from libs.rpc.columns import encode
from tally.contract.request_id import request_id_of
from tally.contract.rules import MAX_ID_BYTES
from tally.ingest.v1.ingest_pb2 import ProcessEventsRequest

MOST_EVENTS = 5_000
"""in a shipment"""
HASH_BYTES = 16
FIRST_LIFE = 0
"""of a record; lives that follow come with the events that take a record back"""

Hashes = npt.NDArray[np.bytes_]
"""(n,) of 16 bytes each, sorted"""

_HASH = np.dtype(f"S{HASH_BYTES}")


class Event(NamedTuple):
    """A record that is an event."""

    uri: str
    """of the record"""
    kind: str
    """the event type"""
    video: str
    """at-URI of the post that is the video"""
    did: str
    """its author"""
    time_us: int


@dataclass(frozen=True, slots=True)
class Shipment:
    """One request: its events are of one partition, so it is one entry. `start`: of its bytes in the plan's object."""

    number: int
    partition: int
    event_count: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What an object holds, and where its shipments are in it."""

    content: bytes
    hash_count: int
    shipments: Sequence[Shipment]


def hash_of(event: Event, life: int = FIRST_LIFE) -> bytes:
    """What stands for an event in the counted set: 16 bytes made from at-URI, event type and life."""
    text = f"{event.uri}\0{event.kind}\0{life}"
    return hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest()


def read_hashes(content: bytes) -> Hashes:
    """The hashes of an object."""
    return np.frombuffer(content, _HASH)


def unite(one: Hashes, other: Hashes) -> bytes:
    """The object of both, sorted, each hash once."""
    return np.unique(np.concatenate([one, other])).astype(_HASH).tobytes()


def name_of(text: str, kind: str) -> str:
    """A DID or at-URI as Tally takes it: one of more than 128 bytes is stood for by its SHA-256 (T002-44)."""
    if len(text.encode()) <= MAX_ID_BYTES:
        return text
    return f"{kind}-sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def make_plan(events: Iterable[Event], counted: Hashes, partition_count: int) -> Plan | None:
    """The plan of the events that are not in the counted set; None if there are none."""
    by_hash = {hash_of(event): event for event in events}
    hashes = np.sort(np.array(list(by_hash), _HASH)) if by_hash else np.empty(0, _HASH)
    fresh = hashes[~np.isin(hashes, counted)]
    if not len(fresh):
        return None
    # numpy drops zero bytes at the end of a value.
    chosen = [by_hash[bytes(each).ljust(HASH_BYTES, b"\0")] for each in fresh]
    pieces = [fresh.tobytes()]
    start = len(pieces[0])
    shipments = []
    for number, (partition, some) in enumerate(_cut(chosen, partition_count)):
        body = _body_of(some)
        shipments.append(Shipment(number, partition, len(some), start, len(body)))
        pieces.append(body)
        start += len(body)
    return Plan(b"".join(pieces), len(fresh), shipments)


def request_id(identity: Sequence[str | int], number: int, attempt: int, first_sent_ms: int) -> str:
    """The id of a shipment, made from its row. `identity`: cluster, dataset, bucket, plan and the plan's object."""
    text = "/".join(map(str, [*identity, number, attempt]))
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()) >> (256 - 74)
    return str(request_id_of(first_sent_ms, bits))


def request_of(request_id: str, body: bytes) -> bytes:
    """The bytes of a ProcessEventsRequest: the field `request_id`, and the others as they are in the plan."""
    return ProcessEventsRequest(request_id=request_id).SerializeToString() + body


def _cut(events: Sequence[Event], partition_count: int) -> Iterator[tuple[int, list[Event]]]:
    """Pieces of one partition each, in the order of partitions; within one by video, so that names are few."""
    partitions = partitions_of([name_of(event.video, "at") for event in events], partition_count).tolist()
    ordered = sorted(zip(partitions, events, strict=True), key=lambda pair: (pair[0], pair[1].video, pair[1]))
    piece: list[Event] = []
    current = -1
    for partition, event in ordered:
        if piece and (partition != current or len(piece) == MOST_EVENTS):
            yield current, piece
            piece = []
        current = partition
        piece.append(event)
    if piece:
        yield current, piece


def _body_of(events: Sequence[Event]) -> bytes:
    videos, video_index = _index([name_of(event.video, "at") for event in events])
    kinds, kind_index = _index([event.kind for event in events])
    actors, actor_index = _index([name_of(event.did, "did") for event in events])
    columns = encode(
        Events(
            videos,
            kinds,
            actors,
            video_index,
            kind_index,
            actor_index,
            np.array([event.time_us for event in events], np.int64),
        )
    )
    return ProcessEventsRequest(columns=columns).SerializeToString(deterministic=True)


def _index(names: Sequence[str]) -> tuple[list[str], npt.NDArray[np.uint16]]:
    places: dict[str, int] = {}
    index = [places.setdefault(name, len(places)) for name in names]
    return list(places), np.array(index, np.uint16)
