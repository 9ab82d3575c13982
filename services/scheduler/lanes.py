"""The lanes of a job's slots, and which of them a lease looks into first. Pure."""

FORCED = 0
"""slots of items that somebody waits for"""
SCHEDULED = 1
"""slots that the cadence gives"""
RETRY = 2
"""slots of items that are tried again"""

LANES = (FORCED, SCHEDULED, RETRY)
_RETRY_TURNS = 4


def lanes_in_turn(turn: int) -> tuple[int, ...]:
    """The lanes in the order in which the lease of this number looks: every fourth lease looks for retries first.

    Forced slots come before all of them, whichever job they are of.
    """
    return (RETRY, SCHEDULED) if turn % _RETRY_TURNS == _RETRY_TURNS - 1 else (SCHEDULED, RETRY)
