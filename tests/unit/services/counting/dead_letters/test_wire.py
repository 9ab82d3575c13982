"""Ids, page tokens, and the beginning of a payload, there and back."""

import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.events import Events
from libs.rpc.columns import encode
from services.counting.dead_letters.letters import Cursor, Key, State
from services.counting.dead_letters.wire import (
    first_events,
    first_video_id,
    read_key,
    read_token,
    write_token,
)
from tally.contract.errors import InvalidRequest
from tally.contract.rules import NO_ACTOR, NO_TIME
from tally.ingest.v1.ingest_pb2 import Event

KEY = Key(uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057"), 7)
CURSOR = Cursor(datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC), KEY)


def test_an_id_is_the_request_id_a_slash_and_the_partition() -> None:
    assert str(KEY) == "01890a5d-ac96-774b-bcce-b302099a8057/7"
    assert read_key(str(KEY)) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "7",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a8057/",
        "01890a5d-ac96-774b-bcce-b302099a8057/-1",
        "01890a5d-ac96-774b-bcce-b302099a8057/+7",
        "01890a5d-ac96-774b-bcce-b302099a8057/07",
        "01890a5d-ac96-774b-bcce-b302099a8057/4096",
        "01890A5D-AC96-774B-BCCE-B302099A8057/7",
        "01890a5d-ac96-774b-bcce-b302099a8057/7/7",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="id: must be a request id, a slash and a partition"):
        read_key(text)


@pytest.mark.parametrize("state", [None, *State])
def test_a_token_says_where_the_page_before_ended(state: State | None) -> None:
    assert read_token(write_token(state, CURSOR), state) == CURSOR
    assert read_token("", state) == Cursor()


def test_a_token_of_another_list_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="page_token: belongs to a list of another state"):
        read_token(write_token(State.WAITING, CURSOR), None)


@given(st.text(max_size=60))
def test_what_is_no_token_is_refused(token: str) -> None:
    if token:
        with pytest.raises(InvalidRequest, match="page_token: is no token"):
            read_token(token, None)


@given(
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=128).filter(
        lambda text: len(text.encode()) <= 128
    )
)
def test_the_first_video_is_told_from_the_beginning_of_a_payload(video_id: str) -> None:
    one = np.zeros(40, np.uint16)
    payload = encode(Events([video_id, "other"], ["view"], [], one, one)).SerializeToString()
    assert first_video_id(payload[:256]) == video_id


@given(st.binary(max_size=256))
def test_any_bytes_tell_a_video_that_can_be_printed_or_none(beginning: bytes) -> None:
    assert first_video_id(beginning).isprintable()


def test_the_first_events_come_with_all_that_they_carry() -> None:
    events = Events(
        video_ids=["a", "b"],
        event_types=["view", "like"],
        actor_ids=["somebody"],
        video_index=np.array([1, 0, 1], np.uint16),
        event_type_index=np.array([0, 1, 0], np.uint16),
        actor_index=np.array([0, NO_ACTOR, 0], np.uint16),
        time_us=np.array([1_500_000, NO_TIME, -1]),
        value=np.array([0.5, np.nan, 0.0]),
    )
    first, second = first_events(events, 2)
    assert (first.video_id, first.event_type, first.actor_id, first.value) == ("b", "view", "somebody", 0.5)
    assert (first.event_time.seconds, first.event_time.nanos) == (1, 500_000_000)
    assert second == Event(video_id="a", event_type="like")
    assert len(list(first_events(events, 10))) == 3
