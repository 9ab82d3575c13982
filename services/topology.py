"""Who is in a cluster on one machine: the names of its processes, where each listens, and its environment.

Pure but for the search of free ports.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.embedded.envoy_config import Pool
from libs.rpc import ports

ENVOY, POSTGRES, VALKEY = "envoy", "postgres", "valkey"
PURPOSES = {
    ENVOY: "the front door",
    "partitioner": "takes events in",
    "query": "answers counts and statistics",
    "counting": "makes events durable, counts them",
    POSTGRES: "the journal and the rollups",
    VALKEY: "totals that are often read",
}
"""in the order in which calls travel"""

_HEALTH = {
    "partitioner": "tally.ingest.v1.IngestService",
    "query": "tally.query.v1.QueryService",
    "counting": "tally.counting.v1.CountingService",
}
# What the front door leads to: services for clients, and none for operators or between processes. The first answers
# what is asked of the server as a whole.
_PUBLIC = {
    "partitioner": ("tally.ingest.v1.IngestService",),
    "query": ("tally.query.v1.QueryService",),
}
# A server that stops says NOT_SERVING for so long before it refuses calls. By then Envoy's health checks, twice a
# second, have noticed, even where one takes a second.
_DRAIN_DELAY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How many there are of each."""

    partitioners: int = 2
    shards: int = 3
    queries: int = 2

    @property
    def counts(self) -> Mapping[str, int]:
        """The same by the name of the service."""
        return {"partitioner": self.partitioners, "query": self.queries, "counting": self.shards}


@dataclass(frozen=True, slots=True)
class Place:
    """One service process: `counting-2` is the third of the service `counting`."""

    name: str
    service: str
    address: str

    @property
    def health_service(self) -> str:
        """The gRPC service that says whether this process is serving."""
        return _HEALTH[self.service]

    @property
    def is_public(self) -> bool:
        """Whether the front door leads to it."""
        return self.service in _PUBLIC


@dataclass(frozen=True, slots=True)
class Topology:
    """The front door and the places behind it, which last as long as the cluster does."""

    address: str
    places: Sequence[Place]

    def of(self, service: str) -> list[Place]:
        """The places of one service, in the order of their numbers."""
        return [place for place in self.places if place.service == service]

    @property
    def pools(self) -> list[Pool]:
        """What the front door leads to."""
        return [
            Pool(service, [place.address for place in self.of(service)], _HEALTH[service], services)
            for service, services in _PUBLIC.items()
        ]

    def environment_of(self, place: Place, folder: Path, dsn: str, valkey_url: str) -> dict[str, str]:
        """The variables that make a process of `python -m services` this one; `folder` is for what it keeps."""
        environment = {
            "TALLY_DATA_DIR": str(folder),
            "TALLY_SERVER__ADDRESS": place.address,
            "TALLY_SERVER__DRAIN_DELAY_SECONDS": f"{_DRAIN_DELAY_SECONDS:g}",
            "TALLY_POSTGRES__DSN": dsn,
            "TALLY_VALKEY__URL": valkey_url,
        }
        if place.service == "counting":
            # The spool of a shard lies under this name, so that the next life finds it.
            environment["TALLY_COUNTING__SHARD"] = place.name
        if place.service == "partitioner":
            shards = [shard.address for shard in self.of("counting")]
            environment["TALLY_PARTITIONER__SHARDS"] = json.dumps(shards)
        return environment


def make_topology(shape: Shape, address: str | None) -> Topology:
    """Places on free ports of this machine, and a front door, at `address` or on one of them. Raises NotReady."""
    own, *free = ports.find_free(1 + sum(shape.counts.values()))
    remaining = iter(free)
    return Topology(
        address or f"127.0.0.1:{own}",
        [
            Place(f"{service}-{number}", service, f"127.0.0.1:{next(remaining)}")
            for service, count in shape.counts.items()
            for number in range(count)
        ],
    )
