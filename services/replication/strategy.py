"""Pure: selects the strategy that replicates the changes of a location to a peer."""

from dataclasses import dataclass
from enum import StrEnum

from services.replication.settings import StrategySettings


class Strategy(StrEnum):
    """The ways, by the source's names: a StateChange each, StateBatch, BulkIndexComplete, a database snapshot."""

    NOTHING = "nothing"
    CHANGE = "change"
    BATCH = "batch"
    NOTIFY = "notify"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class PeerState:
    """The state of a peer that decides the strategy for one location."""

    is_initial_sync: bool = False
    """the peer has nothing of this device"""
    is_below_floor: bool = False
    """tombstones that it has not seen may have been pruned, or its watermark is not known here"""
    is_behind: bool = False
    """the location was announced to it and is not loaded"""
    is_loading: bool = False
    is_counting: bool = False
    """a counting model, of which no location is ever behind"""


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy, and why."""

    strategy: Strategy
    reason: str


def select_strategy(
    peer: PeerState, rows: int, settings: StrategySettings, forced: Strategy | None = None
) -> Choice:
    """How `rows` changed rows of one location, deletes included, travel. Total over both arguments.

    `rows` counts from the peer's watermark; of a location that is behind, from where it was loaded.
    """
    if peer.is_initial_sync:
        return Choice(Strategy.SNAPSHOT, "the peer has nothing of this device")
    if peer.is_below_floor:
        return Choice(Strategy.SNAPSHOT, "the peer's watermark is below the floor, or not known here")
    if rows <= 0:
        return Choice(Strategy.NOTHING, "nothing has changed")
    if peer.is_behind:
        return Choice(Strategy.NOTIFY, "the location is not loaded, and is only announced until it is")
    if forced is not None and not (forced is Strategy.NOTIFY and (peer.is_loading or peer.is_counting)):
        return Choice(forced, "the last bulk commit asked for it")
    if rows < settings.batch_from_rows:
        return Choice(Strategy.CHANGE, f"{rows} changed rows are less than {settings.batch_from_rows}")
    if rows < settings.notify_from_rows:
        return Choice(Strategy.BATCH, f"{rows} changed rows are less than {settings.notify_from_rows}")
    if peer.is_loading:
        return Choice(Strategy.BATCH, "the location is loading, and stays so")
    if peer.is_counting:
        return Choice(Strategy.BATCH, "a counting model is never behind")
    return Choice(Strategy.NOTIFY, f"{rows} changed rows are {settings.notify_from_rows} or more")
