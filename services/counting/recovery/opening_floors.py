"""Raises the opening floor of long-lived logs, so that their entries are not searched in old partitions.

Strong reads and recovery search the unapplied entries of a log at and above its opening floor. That starts as the floor
with which the log was opened (ADR 5). Once every entry below its current floor is applied, none below it will be
unapplied again: the floor of a log is raised after the insert under way, and later inserts refuse entries below it.
"""

from typing import Any

_BEHIND = (
    "select log_id, opening_floor, floor from counting.log where state = 'open' and opening_floor < floor"
)
# The bounds are constants, so that only the partitions between them are locked. A floor that was raised since it was
# read needs a later snapshot: the next time.
_RAISE = """
update counting.log set opening_floor = floor
where log_id = $1 and state = 'open' and floor = '{floor}' and opening_floor < floor
    and not exists (
        select from counting.journal join counting.checkpoint using (log_id)
        where log_id = $1 and seq > applied_seq and request_id >= '{opening_floor}' and request_id < '{floor}'
    )"""


async def raise_opening_floors(pool: Any) -> None:
    """Raise the opening floor of each open log whose entries below its floor are applied. Harmless to repeat."""
    for row in await pool.fetch(_BEHIND):
        await pool.execute(
            _RAISE.format(floor=row["floor"], opening_floor=row["opening_floor"]), row["log_id"]
        )
