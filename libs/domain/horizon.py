"""How old a request id may be: the limit of the door, and half an hour below it the floor.

Between the two lies the time that a request may spend on its way, so that no request is refused by one shard
and counted by another.
"""

import uuid

from tally.contract.request_id import AHEAD_MS, HORIZON_MS, first_id_of

FLOOR_BEHIND_DOOR_MS = 30 * 60_000


def is_inside(id_ms: int, now_ms: int) -> bool:
    """Whether an id made at `id_ms` may pass the door at `now_ms`; milliseconds since 1970-01-01 UTC."""
    return now_ms - HORIZON_MS <= id_ms <= now_ms + AHEAD_MS


def floor_ms_at(now_ms: int) -> int:
    """The time of the floor that belongs to `now_ms`."""
    return now_ms - HORIZON_MS - FLOOR_BEHIND_DOOR_MS


def floor_at(now_ms: int) -> uuid.UUID:
    """The floor that belongs to `now_ms`: no id below it may enter the journal any more."""
    return first_id_of(floor_ms_at(now_ms))
