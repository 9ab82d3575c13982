"""The dry run: which strategy each peer and location would get now, and what it would cost. Sends nothing."""

import uuid
from dataclasses import dataclass
from typing import Any

from services.replication.epoch import Life
from services.replication.passes import BelowFloor, plan_pass
from services.replication.rows import MODEL
from services.replication.settings import StrategySettings
from services.replication.strategy import PeerState, Strategy, select_strategy
from tally.contract.errors import PeerMismatch

_ACKED = """
select region.device, ack.epoch, ack.watermark::text as watermark
from replication.region left join replication.peer_ack as ack on ack.peer = region.device and ack.model = $1
where not region.is_own and ($2::uuid is null or region.device = $2) order by region.device"""
_ALL_ROWS = "select count(*) from replication.entry"
# Of made entries, measured: bytes a row on the wire, and rows applied a second.
_BYTES = {Strategy.CHANGE: 350, Strategy.BATCH: 50, Strategy.SNAPSHOT: 60}
_RATES = {Strategy.CHANGE: 500, Strategy.BATCH: 20_000, Strategy.SNAPSHOT: 40_000}
_NOTIFICATION_BYTES = 100


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be sent to a peer. `location` None: for the whole device."""

    peer: uuid.UUID
    location: uuid.UUID | None
    strategy: Strategy
    reason: str
    rows: int

    @property
    def size(self) -> int:
        """Bytes on the wire, about."""
        if self.strategy is Strategy.NOTIFY:
            return _NOTIFICATION_BYTES
        return self.rows * _BYTES.get(self.strategy, 0)

    @property
    def seconds(self) -> float:
        """How long it would take, about."""
        return self.rows / _RATES[self.strategy] if self.strategy in _RATES else 0.0


async def explain_strategy(
    pool: Any, life: Life, settings: StrategySettings, peer: uuid.UUID | None
) -> list[Explanation]:
    """For each peer and location with changes since what the peer has acknowledged."""
    found = []
    for acked in await pool.fetch(_ACKED, MODEL, peer):
        device = acked["device"]
        is_initial = acked["watermark"] is None
        try:
            is_known = not is_initial and acked["epoch"] == life.epoch
            plan = await plan_pass(pool, life, acked["watermark"]) if is_known else None
        except (BelowFloor, PeerMismatch):
            plan = None
        if plan is None:
            rows = await pool.fetchval(_ALL_ROWS)
            state = PeerState(is_initial_sync=is_initial, is_below_floor=not is_initial)
            choice = select_strategy(state, rows, settings)
            found.append(Explanation(device, None, choice.strategy, choice.reason, rows))
            continue
        for changed in plan.changed:
            forced = None if changed.forced is None else Strategy(changed.forced)
            choice = select_strategy(PeerState(), changed.rows, settings, forced)
            found.append(Explanation(device, changed.location, choice.strategy, choice.reason, changed.rows))
    return found
