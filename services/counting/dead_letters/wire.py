"""Dead letters on the wire: ids, page tokens, and the part of a payload that an operator sees."""

import base64
import binascii
import math
import uuid
from collections.abc import Iterator
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.domain.events import Events
from services.counting.dead_letters.letters import Cursor, Key, State
from tally.contract.errors import InvalidRequest, Violation
from tally.contract.rules import NO_ACTOR, NO_TIME
from tally.ingest.v1.ingest_pb2 import Event

_MAX_PARTITION = 4095
_VIDEO_IDS = 0x0A
"""The tag of the field `video_ids`, the first field of an EventColumns (protobuf's encoding: 1 << 3 | 2)."""


def read_key(text: str) -> Key:
    """The key that an id names. Raises InvalidRequest."""
    request_id, _, partition = text.partition("/")
    try:
        key = Key(uuid.UUID(request_id), int(partition))
    except ValueError:
        key = None
    if key is None or str(key) != text or not 0 <= key.partition <= _MAX_PARTITION:
        raise InvalidRequest(
            [
                Violation(
                    "id",
                    "must be a request id, a slash and a partition, such as "
                    "01890a5d-ac96-774b-bcce-b302099a8057/7",
                )
            ]
        )
    return key


def write_token(state: State | None, last: Cursor) -> str:
    """What asks for the letters after the last one of a page."""
    at = last.created_at.isoformat() if last.created_at else ""
    return base64.urlsafe_b64encode(f"{state or ''} {at} {last.key}".encode()).decode()


def read_token(token: str, state: State | None) -> Cursor:
    """Where a page begins. Raises InvalidRequest for what is no token, or one of a list of another state."""
    if not token:
        return Cursor()
    try:
        its_state, at, key = base64.urlsafe_b64decode(token.encode()).decode().split(" ")
        cursor = Cursor(datetime.fromisoformat(at), read_key(key))
    except (ValueError, binascii.Error, InvalidRequest) as error:
        raise _no_token("is no token of this service") from error
    if its_state != (state or "") or cursor.created_at is None or cursor.created_at.tzinfo is None:
        raise _no_token("belongs to a list of another state: send the state that it began with")
    return cursor


def first_video_id(beginning: bytes) -> str:
    """The first video of a payload, read from its first 256 bytes; empty if that is not possible.

    A length below 128 is one byte; 128, the longest that an id has, is two.
    """
    start, length = (2, beginning[1]) if len(beginning) > 1 else (0, 0)
    if length == 128 and beginning[2:3] == b"\x01":
        start = 3
    text = beginning[start : start + length]
    if beginning[:1] != bytes([_VIDEO_IDS]) or len(text) < length:
        return ""
    video_id = text.decode(errors="replace")
    return video_id if video_id.isprintable() else ""  # what is none may be anything


def first_events(events: Events, limit: int) -> Iterator[Event]:
    """The first events, each as a message of its own."""
    for n in range(min(limit, len(events))):
        event = Event(
            video_id=events.video_ids[events.video_index[n]],
            event_type=events.event_types[events.event_type_index[n]],
        )
        if events.time_us is not None and events.time_us[n] != NO_TIME:
            seconds, micros = divmod(int(events.time_us[n]), 1_000_000)
            event.event_time.CopyFrom(Timestamp(seconds=seconds, nanos=micros * 1000))
        if events.value is not None and not math.isnan(events.value[n]):
            event.value = events.value[n]
        if events.actor_index is not None and events.actor_index[n] != NO_ACTOR:
            event.actor_id = events.actor_ids[events.actor_index[n]]
        yield event


def _no_token(problem: str) -> InvalidRequest:
    return InvalidRequest([Violation("page_token", problem)])
