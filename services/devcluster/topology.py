"""The processes of a cluster on one machine: their names, addresses and environments.

All of it follows from the table of services. Pure but for the search of free ports.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.embedded.envoy_config import Pool
from libs.rpc import ports
from libs.telemetry.targets import Target
from services.registry import SERVICES, Service

ENVOY, POSTGRES, VALKEY = "envoy", "postgres", "valkey"

_BEFORE = {ENVOY: "the front proxy"}
_BEHIND = {POSTGRES: "the journal and the rollups", VALKEY: "totals that are often read"}
PURPOSES = {**_BEFORE, **{service.name: service.purpose for service in reversed(SERVICES)}, **_BEHIND}
"""in the order in which calls travel"""

_WHOLE = "partitioner"
"""the service whose health is that of the whole: a cluster is there to take events"""

# A server that stops reports NOT_SERVING for so long before it refuses calls. By then Envoy's health checks, twice a
# second, have noticed, even where one takes a second.
_DRAIN_DELAY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """One service process: `counting-2` is the third of the service `counting`."""

    name: str
    service: Service
    address: str
    telemetry: str
    """`host:port` of its metrics and traces"""

    @property
    def is_public(self) -> bool:
        """Whether the front proxy routes calls to it."""
        return bool(self.service.routed)


@dataclass(frozen=True, slots=True)
class Topology:
    """The front proxy's address and the places behind it, which last as long as the cluster does."""

    address: str
    places: Sequence[Place]

    def of(self, service: str) -> list[Place]:
        """The places of one service, in the order of their numbers."""
        return [place for place in self.places if place.service.name == service]

    @property
    def pools(self) -> list[Pool]:
        """The servers to which the front proxy routes; the first answers for the health of the whole."""
        return [
            Pool(
                service.name,
                [place.address for place in self.of(service.name)],
                service.health,
                [routed.full_name for routed in service.routed],
            )
            for service in sorted(SERVICES, key=lambda service: service.name != _WHOLE)
            if service.routed and self.of(service.name)
        ]

    @property
    def targets(self) -> list[Target]:
        """Where the metrics of each process are."""
        return [Target(place.telemetry, place.service.name, place.name) for place in self.places]

    def environment_of(self, place: Place, folder: Path, dsn: str, valkey_url: str) -> dict[str, str]:
        """The variables that make a process of `python -m services` this one; `folder` is for what it keeps."""
        service = place.service
        environment = {
            "TALLY_DATA_DIR": str(folder),
            "TALLY_SERVER__ADDRESS": place.address,
            "TALLY_TELEMETRY__ADDRESS": place.telemetry,
            "TALLY_SERVER__DRAIN_DELAY_SECONDS": f"{_DRAIN_DELAY_SECONDS:g}",
            "TALLY_POSTGRES__DSN": dsn,
            "TALLY_VALKEY__URL": valkey_url,
        }
        if service.instance is not None:
            # Its disk is found again by this name.
            environment[service.variable_of(service.instance)] = place.name
        for called, field in service.calls.items():
            environment[service.variable_of(field)] = json.dumps([each.address for each in self.of(called)])
        return environment


def make_topology(replicas: Mapping[str, int], address: str | None) -> Topology:
    """Places on free ports of this machine, and a front proxy at `address` or on one of them. Raises NotReady.

    `replicas` says how many processes of which service; the others have as many as the table says.
    """
    counts = {service.name: replicas.get(service.name, service.replicas) for service in SERVICES}
    own, *free = ports.find_free(1 + 2 * sum(counts.values()))
    remaining = iter(free)
    return Topology(
        address or f"127.0.0.1:{own}",
        [
            Place(
                f"{service.name}-{number}",
                service,
                f"127.0.0.1:{next(remaining)}",
                f"127.0.0.1:{next(remaining)}",
            )
            for service in reversed(SERVICES)
            for number in range(counts[service.name])
        ],
    )
