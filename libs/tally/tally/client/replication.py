"""Regions, their locations and transfers, for operators: `client.replication`."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tally.client._calls.methods import Method
from tally.client._calls.namespace import Namespace
from tally.client._checks.times import from_timestamp
from tally.contract.errors import InvalidRequest
from tally.replication.v1 import entries_pb2, peers_pb2, replication_pb2

LONG_TIMEOUT_S = 600.0
"""Indexing a folder and comparing a region read everything that they are about."""

_ENTRIES = "/tally.replication.v1.EntryService"
_OPERATORS = "/tally.replication.v1.ReplicationService"
_INDEX = Method(
    f"{_ENTRIES}/IndexLocation",
    entries_pb2.IndexLocationRequest,
    entries_pb2.IndexLocationResponse.FromString,
)
_DELETE_LOCATION = Method(
    f"{_ENTRIES}/DeleteLocation",
    entries_pb2.DeleteLocationRequest,
    entries_pb2.DeleteLocationResponse.FromString,
)
_LIST_LOCATIONS = Method(
    f"{_ENTRIES}/ListLocations",
    entries_pb2.ListLocationsRequest,
    entries_pb2.ListLocationsResponse.FromString,
)
_LOAD = Method(
    f"{_OPERATORS}/LoadLocation",
    replication_pb2.LoadLocationRequest,
    replication_pb2.LoadLocationResponse.FromString,
)
_LIST_PEERS = Method(
    f"{_OPERATORS}/ListPeers", replication_pb2.ListPeersRequest, replication_pb2.ListPeersResponse.FromString
)
_PUT_PEER = Method(
    f"{_OPERATORS}/PutPeer", replication_pb2.PutPeerRequest, replication_pb2.PutPeerResponse.FromString
)
_REMOVE_PEER = Method(
    f"{_OPERATORS}/RemovePeer",
    replication_pb2.RemovePeerRequest,
    replication_pb2.RemovePeerResponse.FromString,
)
_TRANSFERS = Method(
    f"{_OPERATORS}/ListTransfers",
    replication_pb2.ListTransfersRequest,
    replication_pb2.ListTransfersResponse.FromString,
)
_EXPLAIN = Method(
    f"{_OPERATORS}/ExplainStrategy",
    replication_pb2.ExplainStrategyRequest,
    replication_pb2.ExplainStrategyResponse.FromString,
)
_VERIFY = Method(
    f"{_OPERATORS}/Verify", replication_pb2.VerifyRequest, replication_pb2.VerifyResponse.FromString
)


class Strategy(StrEnum):
    """How the changes of a location travel to a peer."""

    UNSPECIFIED = "unspecified"
    """sent by a service that is newer than this client"""
    CHANGE = "change"
    BATCH = "batch"
    NOTIFY = "notify"
    SNAPSHOT = "snapshot"
    NOTHING = "nothing"


_FORCED = {
    Strategy.CHANGE: entries_pb2.STRATEGY_CHANGE,
    Strategy.BATCH: entries_pb2.STRATEGY_BATCH,
    Strategy.NOTIFY: entries_pb2.STRATEGY_NOTIFY,
    Strategy.SNAPSHOT: entries_pb2.STRATEGY_SNAPSHOT,
}


class Verdict(StrEnum):
    """How a location compares with its owner. `LATE`: changes are under way, ask again. `BEHIND`: not loaded here."""

    UNSPECIFIED = "unspecified"
    EQUAL = "equal"
    DIFFERENT = "different"
    LATE = "late"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Region:
    """A region. `as_of`: everything that it committed before is here, or its location is behind."""

    device_id: str
    name: str
    address: str
    is_own: bool
    is_connected: bool
    is_lazy: bool
    epoch: int
    as_of: datetime | None
    problem: str


@dataclass(frozen=True, slots=True)
class Location:
    """What one region indexed as a whole. `state`: own, current, loading or behind."""

    location_id: str
    device_id: str
    kind: str
    origin: str
    entry_count: int
    indexed_at: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Indexed:
    """What indexing a folder has changed. `skipped`: the first files that could not be taken, with the reason."""

    location: Location
    written: int
    deleted: int
    skipped: tuple[str, ...]
    skipped_count: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """An incoming transfer, current or finished."""

    transfer_id: str
    device_id: str
    strategy: Strategy
    location_id: str
    phase: str
    rows_done: int
    rows_total: int
    bytes_done: int
    rows_again: int
    error: str
    begin_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be sent to a peer now. `location_id` empty: of the whole device."""

    peer_device_id: str
    location_id: str
    strategy: Strategy
    reason: str
    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LocationVerdict:
    """What both ends have of a location: rows, and the fingerprint, which is the sum of their 128-bit hashes."""

    location_id: str
    verdict: Verdict
    rows_here: int
    rows_there: int
    fingerprint_here: str
    fingerprint_there: str


class Replication(Namespace):
    """Calls to the replication service of a region. It uses the connection of its client."""

    async def list_regions(self, *, timeout: float | None = None) -> tuple[Region, ...]:
        """The regions that are known, the one that answers first."""
        request = replication_pb2.ListPeersRequest()
        answer = await self._open().call(_LIST_PEERS, request, timeout)
        return tuple(map(_region, answer.regions))

    async def add_region(
        self, address: str, *, is_lazy: bool = False, timeout: float | None = None
    ) -> Region:
        """Make a region known by the address of its replication service, and follow it."""
        policy = replication_pb2.POLICY_LAZY if is_lazy else replication_pb2.POLICY_FOLLOW
        request = replication_pb2.PutPeerRequest(address=address, policy=policy)
        return _region((await self._open().call(_PUT_PEER, request, timeout)).region)

    async def remove_region(self, device_id: str, *, timeout: float | None = None) -> None:
        """Stop following a region, and delete what is here of it. Raises NotFound."""
        request = replication_pb2.RemovePeerRequest(device_id=device_id)
        await self._open().call(_REMOVE_PEER, request, timeout)

    async def list_locations(
        self, device_id: str = "", *, timeout: float | None = None
    ) -> tuple[Location, ...]:
        """All locations of a region, or of all that are known."""
        found: list[Location] = []
        token = ""
        while True:
            request = entries_pb2.ListLocationsRequest(device_id=device_id, page_size=1000, page_token=token)
            answer = await self._open().call(_LIST_LOCATIONS, request, timeout)
            found += map(_location, answer.locations)
            token = answer.next_page_token
            if not token:
                return tuple(found)

    async def index_location(
        self, folder: str, *, strategy: Strategy | str | None = None, timeout: float = LONG_TIMEOUT_S
    ) -> Indexed:
        """Index a folder on the machine of the service. `strategy`: how it has to travel, for tests."""
        request = entries_pb2.IndexLocationRequest(folder=folder, force_strategy=_number(strategy))
        answer = await self._open().call(_INDEX, request, timeout)
        return Indexed(
            _location(answer.location),
            answer.written,
            answer.deleted,
            tuple(answer.skipped),
            answer.skipped_count,
        )

    async def delete_location(self, location_id: str, *, timeout: float = LONG_TIMEOUT_S) -> int:
        """Delete a location of the region that answers; how many entries it had. Raises NotFound."""
        request = entries_pb2.DeleteLocationRequest(location_id=location_id)
        return (await self._open().call(_DELETE_LOCATION, request, timeout)).deleted

    async def load_location(self, location_id: str, *, timeout: float | None = None) -> Location:
        """Load a location of another region in the background. Raises NotFound."""
        request = replication_pb2.LoadLocationRequest(location_id=location_id)
        return _location((await self._open().call(_LOAD, request, timeout)).location)

    async def list_transfers(self, limit: int = 50, *, timeout: float | None = None) -> tuple[Transfer, ...]:
        """The incoming transfers, newest first."""
        request = replication_pb2.ListTransfersRequest(page_size=limit)
        answer = await self._open().call(_TRANSFERS, request, timeout)
        return tuple(map(_transfer, answer.transfers))

    async def explain(
        self, peer_device_id: str = "", *, timeout: float | None = None
    ) -> tuple[Explanation, ...]:
        """Which strategy the changes of each location would take to each peer now. Sends nothing."""
        request = replication_pb2.ExplainStrategyRequest(peer_device_id=peer_device_id)
        answer = await self._open().call(_EXPLAIN, request, timeout)
        return tuple(
            Explanation(
                each.peer_device_id,
                each.location_id,
                _strategy(each.strategy),
                each.reason,
                each.rows,
                each.bytes,
                each.seconds,
            )
            for each in answer.explanations
        )

    async def verify(
        self, device_id: str, location_id: str = "", *, timeout: float = LONG_TIMEOUT_S
    ) -> tuple[LocationVerdict, ...]:
        """Compare what is here of a region with its owner, by location. Raises NotFound."""
        request = replication_pb2.VerifyRequest(device_id=device_id, location_id=location_id)
        answer = await self._open().call(_VERIFY, request, timeout)
        return tuple(
            LocationVerdict(
                each.location_id,
                Verdict(_name(replication_pb2.Verdict.Name, each.verdict, "VERDICT_")),
                each.here.rows,
                each.there.rows,
                _fingerprint(each.here),
                _fingerprint(each.there),
            )
            for each in answer.locations
        )


def _region(message: replication_pb2.Region) -> Region:
    return Region(
        message.device_id,
        message.name,
        message.address,
        message.is_own,
        message.is_connected,
        message.policy == replication_pb2.POLICY_LAZY,
        message.epoch,
        from_timestamp(message.as_of) if message.HasField("as_of") else None,
        message.problem,
    )


def _location(message: entries_pb2.Location) -> Location:
    return Location(
        message.location_id,
        message.device_id,
        message.kind,
        message.origin,
        message.entry_count,
        from_timestamp(message.indexed_at),
        _name(entries_pb2.LocationState.Name, message.state, "LOCATION_STATE_"),
    )


def _transfer(message: replication_pb2.Transfer) -> Transfer:
    return Transfer(
        message.transfer_id,
        message.device_id,
        _strategy(message.strategy),
        message.location_id,
        message.phase,
        message.rows_done,
        message.rows_total,
        message.bytes_done,
        message.rows_again,
        message.error,
        from_timestamp(message.begin_time),
        from_timestamp(message.update_time),
    )


def _strategy(number: int) -> Strategy:
    return Strategy(_name(entries_pb2.Strategy.Name, number, "STRATEGY_"))


def _name(name_of: Callable[[int], str], number: int, prefix: str) -> str:
    """The name of an enum's value, as this client has it."""
    try:
        return name_of(number).removeprefix(prefix).lower()
    except ValueError:  # a newer service's
        return "unspecified"


def _number(strategy: Strategy | str | None) -> "entries_pb2.Strategy":
    if strategy is None:
        return entries_pb2.STRATEGY_UNSPECIFIED
    try:
        return _FORCED[Strategy(strategy)]
    except (KeyError, ValueError):
        raise InvalidRequest.of("strategy", f"{strategy!r} is none of {', '.join(_FORCED)}") from None


def _fingerprint(sums: peers_pb2.Sums) -> str:
    return f"{sums.high:016x}{sums.low:016x}"
