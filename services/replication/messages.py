"""Locations, entries and sums as messages of the api."""

from google.protobuf.timestamp_pb2 import Timestamp

from services.replication.reading import KnownLocation
from services.replication.rows import EntryRow
from services.replication.strategy import Strategy
from tally.replication.v1 import entries_pb2 as pb

_STATES = {
    "own": pb.LOCATION_STATE_OWN,
    "current": pb.LOCATION_STATE_CURRENT,
    "loading": pb.LOCATION_STATE_LOADING,
    "behind": pb.LOCATION_STATE_BEHIND,
}
STRATEGIES = {
    Strategy.CHANGE: pb.STRATEGY_CHANGE,
    Strategy.BATCH: pb.STRATEGY_BATCH,
    Strategy.NOTIFY: pb.STRATEGY_NOTIFY,
    Strategy.SNAPSHOT: pb.STRATEGY_SNAPSHOT,
    Strategy.NOTHING: pb.STRATEGY_NOTHING,
}
FORCED: dict[int, Strategy] = {
    number: strategy for strategy, number in STRATEGIES.items() if strategy is not Strategy.NOTHING
}
"""The strategies that a bulk commit may ask for."""


def write_location(location: KnownLocation, loaded_count: int = 0) -> pb.Location:
    """A location with what is here of it."""
    message = pb.Location(
        location_id=str(location.uuid),
        device_id=str(location.device),
        kind=location.kind,
        origin=location.origin,
        entry_count=location.entry_count,
        state=_STATES[location.state],
        version=location.version,
        loaded_count=loaded_count,
    )
    message.indexed_at.FromDatetime(location.indexed_at)
    return message


def write_entry(entry: EntryRow) -> pb.Entry:
    """An entry."""
    return pb.Entry(
        entry_id=str(entry.uuid),
        parent_id=str(entry.parent) if entry.parent else "",
        kind=entry.kind,
        name=entry.name,
        size_bytes=entry.size_bytes,
        modified_at=timestamp(entry.modified_us),
        fingerprint=entry.fingerprint,
        details=entry.details,
        version=entry.version,
    )


def timestamp(micros: int) -> Timestamp:
    """The time for a number of microseconds since 1970-01-01 UTC."""
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
