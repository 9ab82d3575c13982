"""The aggregates that a caller may request, and the fields that an event needs for each."""

from enum import IntEnum


class Function(IntEnum):
    """The numbers are those of `tally.common.v1.Function`."""

    UNSPECIFIED = 0
    COUNT = 1
    SUM = 2
    AVERAGE = 3
    MIN = 4
    MAX = 5
    STDDEV = 6
    DISTINCT = 7
    QUANTILE = 8


NEEDS_VALUE = frozenset(
    (Function.SUM, Function.AVERAGE, Function.MIN, Function.MAX, Function.STDDEV, Function.QUANTILE)
)
NEEDS_ACTOR = frozenset((Function.DISTINCT,))
