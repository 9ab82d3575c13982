"""Who is in a cluster on one machine: the names of its processes, where each listens, and its environment.

Pure but for the search of free ports.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.embedded.envoy_config import Pool
from libs.rpc import ports

POSTGRES, VALKEY, ENVOY = "postgres", "valkey", "envoy"

_HEALTH = {
    "partitioner": "tally.ingest.v1.IngestService",
    "query": "tally.query.v1.QueryService",
    "counting": "tally.counting.v1.CountingService",
}
# The first answers what is asked of the server as a whole.
_PREFIXES = {
    "partitioner": ("/tally.ingest.v1.",),
    "query": ("/tally.query.v1.",),
    "counting": ("/tally.counting.v1.DeadLetterService/",),
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


@dataclass(frozen=True, slots=True)
class Topology:
    """The places of a cluster, which last as long as it does."""

    places: Sequence[Place]

    def of(self, service: str) -> list[Place]:
        """The places of one service, in the order of their numbers."""
        return [place for place in self.places if place.service == service]

    @property
    def pools(self) -> list[Pool]:
        """What the front door leads to."""
        return [
            Pool(service, [place.address for place in self.of(service)], _HEALTH[service], prefixes)
            for service, prefixes in _PREFIXES.items()
        ]

    def environment_of(self, place: Place, dsn: str, valkey_url: str) -> dict[str, str]:
        """The variables that make a process of `python -m services` this one."""
        environment = {
            "TALLY_SERVER__ADDRESS": place.address,
            "TALLY_SERVER__DRAIN_DELAY_SECONDS": f"{_DRAIN_DELAY_SECONDS:g}",
            "TALLY_POSTGRES__DSN": dsn,
            "TALLY_VALKEY__URL": valkey_url,
        }
        if place.service == "counting":
            environment["TALLY_COUNTING__SHARD"] = place.name
        if place.service == "partitioner":
            shards = [shard.address for shard in self.of("counting")]
            environment["TALLY_PARTITIONER__SHARDS"] = json.dumps(shards)
        return environment


def make_topology(shape: Shape) -> Topology:
    """Places on free ports of this machine. Raises NotReady."""
    free = iter(ports.find_free(sum(shape.counts.values())))
    return Topology(
        [
            Place(f"{service}-{number}", service, f"127.0.0.1:{next(free)}")
            for service, count in shape.counts.items()
            for number in range(count)
        ]
    )
