"""Batches of events for the tests: how they are made, and what they hold, event by event."""

import math
from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from libs.domain.events import Events
from tally.contract.rules import NO_ACTOR, NO_TIME

MODEST = settings(max_examples=60, deadline=None, derandomize=True)
"""The same examples in each run; a busy machine makes none of them fail."""

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)
TIMES_US = st.integers(946_684_800_000_000, 4_000_000_000_000_000)


class Row(NamedTuple):
    """One event, as a person would write it down; None for what it does not have."""

    video_id: str
    event_type: str
    actor_id: str | None = None
    time_us: int | None = None
    value: float | None = None


ROWS = st.builds(
    Row,
    video_id=st.sampled_from(["a", "b", "é", "日本", "🎬", "video 1", "video 2"]) | NAMES,
    event_type=st.sampled_from(["view", "like", "seconds_watched"]),
    actor_id=st.none() | NAMES,
    time_us=st.none() | TIMES_US,
    value=st.none() | st.floats(-1e6, 1e6),
)


def batch_of(rows: list[Row], spare: tuple[str, ...] = ()) -> Events:
    """The rows as columns; `spare` are names that the dictionaries hold and no event uses."""
    videos = [*spare, *dict.fromkeys(row.video_id for row in rows)]
    types = [*spare, *dict.fromkeys(row.event_type for row in rows)]
    actors = [*spare, *dict.fromkeys(row.actor_id for row in rows if row.actor_id is not None)]
    video_at, type_at, actor_at = _places(videos), _places(types), _places(actors)
    actor_index = [NO_ACTOR if row.actor_id is None else actor_at[row.actor_id] for row in rows]
    times = [NO_TIME if row.time_us is None else row.time_us for row in rows]
    values = [math.nan if row.value is None else row.value for row in rows]
    return Events(
        video_ids=videos,
        event_types=types,
        actor_ids=actors,
        video_index=np.array([video_at[row.video_id] for row in rows], np.uint16),
        event_type_index=np.array([type_at[row.event_type] for row in rows], np.uint16),
        actor_index=np.array(actor_index, np.uint16) if any(row.actor_id for row in rows) else None,
        time_us=np.array(times, np.int64) if any(row.time_us is not None for row in rows) else None,
        value=np.array(values) if any(row.value is not None for row in rows) else None,
    )


def rows_of(events: Events) -> list[Row]:
    """The events of a batch, in their order."""
    n = len(events)
    actors = np.full(n, NO_ACTOR) if events.actor_index is None else events.actor_index
    times = np.full(n, NO_TIME) if events.time_us is None else events.time_us
    values = np.full(n, math.nan) if events.value is None else events.value
    return [
        Row(
            video_id=events.video_ids[events.video_index[place]],
            event_type=events.event_types[events.event_type_index[place]],
            actor_id=None if actors[place] == NO_ACTOR else events.actor_ids[actors[place]],
            time_us=None if times[place] == NO_TIME else int(times[place]),
            value=None if math.isnan(values[place]) else float(values[place]),
        )
        for place in range(n)
    ]


def _places(names: list[str]) -> dict[str, int]:
    """The last place of each: a spare name may be used after all."""
    return {name: place for place, name in enumerate(names)}
