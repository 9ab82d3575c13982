"""A batch of events as columns: the content of a request, and of an entry's payload."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tally.contract.rules import NO_ACTOR


@dataclass(slots=True)  # not frozen: that takes five times as long to make, and requests make hundreds
class Events:
    """n events. Dictionaries hold each string once; the index columns point into them.

    A column that is None says that no event has such a thing.
    """

    video_ids: list[str]
    event_types: list[str]
    actor_ids: list[str]
    video_index: npt.NDArray[np.uint16]
    """(n,) places in `video_ids`"""
    event_type_index: npt.NDArray[np.uint16]
    """(n,) places in `event_types`"""
    actor_index: npt.NDArray[np.uint16] | None = None
    """(n,) places in `actor_ids`, or NO_ACTOR"""
    time_us: npt.NDArray[np.int64] | None = None
    """(n,) microseconds since 1970-01-01 UTC, or NO_TIME"""
    value: npt.NDArray[np.float64] | None = None
    """(n,) the values, or NaN for none"""

    def __len__(self) -> int:
        return len(self.video_index)

    def part(self, begin: int, end: int | None) -> "Events":
        """The events from place `begin` to before `end`; the dictionaries hold what these use."""
        chosen = slice(begin, end)
        video_ids, video_index = narrow(self.video_ids, self.video_index[chosen])
        event_types, event_type_index = narrow(self.event_types, self.event_type_index[chosen])
        actor_ids: list[str] = []
        actor_index = None
        if self.actor_index is not None:
            actor_index = self.actor_index[chosen].copy()
            has_actor = actor_index != NO_ACTOR
            actor_ids, actor_index[has_actor] = narrow(self.actor_ids, actor_index[has_actor])
        return Events(
            video_ids,
            event_types,
            actor_ids,
            video_index,
            event_type_index,
            actor_index,
            None if self.time_us is None else self.time_us[chosen],
            None if self.value is None else self.value[chosen],
        )


def narrow(dictionary: list[str], index: npt.NDArray[np.uint16]) -> tuple[list[str], npt.NDArray[np.uint16]]:
    """Leave out of a dictionary what the index does not use."""
    used, narrowed = np.unique(index, return_inverse=True)
    return [dictionary[place] for place in used.tolist()], narrowed.astype(np.uint16)
