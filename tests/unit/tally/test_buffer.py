from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.client import Batch, Batching, Event, InvalidRequest
from tally.client._buffering.buffer import Buffer, Draft
from tally.client.columns import Layout
from tests.unit.tally.test_columns import decode

ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
EVENTS = st.builds(
    Event,
    video_id=NAMES,
    event_type=st.sampled_from(["view", "like", "seconds_watched"]),
    event_time=st.none() | st.datetimes(datetime(2000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - it adds the zone
    value=st.none() | st.floats(-(2.0**53), 2.0**53),
    actor_id=st.just("") | NAMES,
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(eq=False)
class Future:
    """What stands for an event's future here."""


def make_buffer(max_events: int = 5_000, max_bytes: int = 1_000_000) -> Buffer[Future]:
    return Buffer(Batching(max_events=max_events, max_bytes=max_bytes), lambda: 7.0)


def add(buffer: Buffer[Future], event: Event) -> Future:
    time_us = None
    if event.event_time is not None:
        since = event.event_time - EPOCH
        time_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    future = Future()
    buffer.add(event.video_id, event.event_type, time_us, event.value, event.actor_id, future)
    return future


def events_of(draft: Draft[Future]) -> list[Event]:
    return decode(draft.layout.columns().to_message())


@settings(deadline=None)
@given(
    st.lists(st.one_of(EVENTS, st.booleans()), max_size=60),
    st.integers(1, 8),
    st.integers(1024, 1600),
)
def test_every_event_goes_in_exactly_one_request_in_order_and_within_the_bounds(
    steps: list[Event | bool], max_events: int, max_bytes: int
) -> None:
    """A step is an event that comes, or a look for a draft: one that is full (False), or any (True)."""
    buffer = make_buffer(max_events=max_events, max_bytes=max_bytes)
    handed_in: list[tuple[Event, Future]] = []
    drafts: list[Draft[Future]] = []
    for step in steps:
        if isinstance(step, Event):
            handed_in.append((step, add(buffer, step)))
        elif draft := buffer.take(also_open=step):
            drafts.append(draft)
    drafts.extend(buffer.drain())
    assert buffer.take(also_open=True) is None
    assert [event for draft in drafts for event in events_of(draft)] == [event for event, _ in handed_in]
    assert [future for draft in drafts for future in draft.futures] == [future for _, future in handed_in]
    for draft in drafts:
        assert 1 <= len(draft) <= max_events
        assert len(Batch(ID, draft.layout.columns()).payload) <= max_bytes


def test_the_largest_events_fill_a_request_of_bytes_nearly_and_never_more() -> None:
    buffer = make_buffer(max_bytes=10_000)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    at = 0
    while not (draft := buffer.take(also_open=False)):
        name = f"{at:02}"
        add(buffer, Event("é" * 63 + name, name + "a" * 62, now, 1.0, "日" * 42 + name))
        at += 1
    assert 9_000 < len(Batch(ID, draft.layout.columns()).payload) <= 10_000


@pytest.mark.parametrize(
    ("video_id", "event_type", "actor_id"),
    [("", "view", ""), ("v", "VIEW", ""), ("v", "view", "a" * 129), ("v\x00", "view", "a")],
)
def test_a_bad_event_leaves_no_trace_in_the_request_of_the_others(
    video_id: str, event_type: str, actor_id: str
) -> None:
    buffer = make_buffer()
    add(buffer, Event("good", value=1.0))
    with pytest.raises(InvalidRequest):
        buffer.add(video_id, event_type, None, 2.0, actor_id, Future())
    add(buffer, Event("good too"))
    (draft,) = buffer.drain()
    assert events_of(draft) == [Event("good", value=1.0), Event("good too")]
    assert len(draft.futures) == 2
    assert list(draft.layout.columns().video_ids) == ["good", "good too"]


def test_a_bad_first_event_opens_no_draft() -> None:
    buffer = make_buffer()
    with pytest.raises(InvalidRequest):
        buffer.add("", "view", None, None, "", Future())
    assert buffer.open_since is None
    assert buffer.drain() == []


@settings(deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=20), st.data())
def test_what_is_left_of_a_draft_are_the_others_in_order(events: list[Event], data: st.DataObject) -> None:
    buffer = make_buffer()
    futures = [add(buffer, event) for event in events]
    (draft,) = buffer.drain()
    delivery = draft.delivery
    delivery.batch = Batch(ID, draft.layout.columns())
    places = data.draw(st.sets(st.integers(0, len(events) - 1)))
    assert draft.take(places) == [futures[at] for at in places]
    assert events_of(draft) == [event for at, event in enumerate(events) if at not in places]
    assert draft.futures == [future for at, future in enumerate(futures) if at not in places]
    assert draft.delivery is delivery
    assert delivery.batch is None


def test_the_bytes_of_a_layout_count_each_string_once() -> None:
    layout = Layout(is_checked=True)
    for _ in range(3):
        layout.add("é", "view", None, None, "someone")
    assert layout.text_bytes == (2 + 4) + (4 + 4) + (7 + 4)
