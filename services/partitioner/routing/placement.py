"""The placement: which shards take the entries of which partition, and by which transport each is reached."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import xxhash

from libs.domain.entry import Entry, Outcome
from libs.domain.placement import place_partitions


class Transport(Protocol):
    """Sends entries to one shard; a single attempt each time."""

    def send(self, entries: Sequence[Entry], deadline: float) -> list[asyncio.Future[Outcome]]:
        """Queue entries, all or none; the outcome of each, in order, or a TallyError.

        `deadline`, in monotonic seconds, is the end of the caller's wait. Raises Overloaded when there is no
        room.
        """


@dataclass(frozen=True, slots=True)
class Placement:
    """Which shards take the entries of which partition, as of one moment."""

    ranked: Mapping[int, tuple[str, ...]]
    """by partition the addresses in the order in which to try them, the leader first"""
    transports: Mapping[str, Transport]
    version: str
    """changes whenever the placement does, and is the same wherever the placement is"""

    @classmethod
    def over(cls, transports: Mapping[str, Transport], partition_count: int) -> Self:
        """The placement over these shards."""
        addresses = sorted(transports)
        version = xxhash.xxh3_64_hexdigest(repr(addresses).encode())
        return cls(place_partitions(partition_count, addresses), dict(transports), version)

    def led_by(self, address: str) -> list[int]:
        """The partitions that a shard leads, ascending."""
        return [partition for partition, ranked in self.ranked.items() if ranked and ranked[0] == address]
