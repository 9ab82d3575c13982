"""What a whole column may hold: the rules for single fields, over arrays."""

import numpy as np
import numpy.typing as npt

from tally.contract.rules import EARLIEST_EVENT_US, FUTURE_TOLERANCE_US, MAX_MAGNITUDE, NO_TIME

Places = npt.NDArray[np.intp]
"""ascending"""


def find_bad_times(time_us: npt.NDArray[np.int64], now_us: int) -> Places:
    """The places of times that `rules.check_event_time` refuses; NO_TIME is none."""
    is_early = (time_us < EARLIEST_EVENT_US) & (time_us != NO_TIME)
    return np.flatnonzero(is_early | (time_us > now_us + FUTURE_TOLERANCE_US))


def find_bad_values(value: npt.NDArray[np.float64]) -> Places:
    """The places of values that `rules.check_value` refuses; NaN stands for no value."""
    return np.flatnonzero(np.abs(value) > MAX_MAGNITUDE)  # infinity is beyond every bound
