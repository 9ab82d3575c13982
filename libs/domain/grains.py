"""Grains: how long the time of a cell is. The rollups keep minutes, and the hours, days and totals made of them."""

from enum import IntEnum


class Grain(IntEnum):
    """The number is in the bodies of blocks."""

    MINUTE = 0
    HOUR = 1
    DAY = 2
    TOTAL = 3
    """all time: every cell is in minute 0"""

    @property
    def minutes(self) -> int:
        """How long it is; a total is as good as one minute."""
        return (1, 60, 1440, 1)[self]

    @property
    def generation(self) -> int:
        """The generation under which its runs are kept. Raises ValueError for minutes, which have many of their own."""
        if self is Grain.MINUTE:
            raise ValueError("minutes are of the generation that they were flushed to")
        return -int(self)


def grain_of(generation: int) -> Grain:
    """What the runs of a generation are made of."""
    return Grain(-generation) if generation < 0 else Grain.MINUTE


COARSE = (Grain.HOUR, Grain.DAY, Grain.TOTAL)
