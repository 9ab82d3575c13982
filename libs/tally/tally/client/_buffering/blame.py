"""Finds the events of a request that the service's violations refer to."""

import re
from collections.abc import Sequence

from tally.client.columns import Columns
from tally.contract.errors import Violation

_OF_EVENT = re.compile(r"columns\.(?:video_index|event_type_index|actor_index|event_time_us|value)\[(\d+)\]")
_OF_STRING = re.compile(r"columns\.(video_ids|event_types|actor_ids)\[(\d+)\]")
_INDEX = {"video_ids": "video_index", "event_types": "event_type_index", "actor_ids": "actor_index"}


def find_bad_events(violations: Sequence[Violation], columns: Columns) -> dict[int, Violation]:
    """The places of the events that are named, each with the first thing that is wrong with it.

    Empty when a violation speaks of anything else: then the fault is not with some events alone.
    """
    found: dict[int, Violation] = {}
    for violation in violations:
        if of_event := _OF_EVENT.fullmatch(violation.field):
            places = [int(of_event[1])]
        elif of_string := _OF_STRING.fullmatch(violation.field):
            places = _events_with(int(of_string[2]), getattr(columns, _INDEX[of_string[1]]))
        else:
            return {}
        for place in places:
            if place < len(columns):
                found.setdefault(place, violation)
    return found


def _events_with(index: int, column: bytes) -> list[int]:
    width = 2
    wanted = index.to_bytes(width, "little")
    return [at // width for at in range(0, len(column), width) if column[at : at + width] == wanted]
