"""Plans: every event that is not counted, once, in requests of one partition each, and always the same bytes."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.partition import cut
from libs.rpc.columns import decode
from services.backfill import plan as module
from services.backfill.plan import (
    HASH_BYTES,
    Event,
    Plan,
    hash_of,
    make_plan,
    name_of,
    read_hashes,
    request_id,
    request_of,
    unite,
)
from tally.contract.request_id import parse_request_id, time_ms_of
from tally.contract.rules import MAX_ID_BYTES
from tally.ingest.v1.ingest_pb2 import ProcessEventsRequest

PARTITIONS = 8
NOTHING = read_hashes(b"")
EVENTS = st.lists(
    st.builds(
        Event,
        uri=st.integers(0, 40).map(lambda n: f"at://did:a/c/{n}"),
        kind=st.sampled_from(["post", "like", "repost"]),
        video=st.integers(0, 9).map(lambda n: f"at://did:b/p/{n}"),
        did=st.sampled_from(["did:a", "did:b", "did:" + "x" * 200]),
        time_us=st.integers(10**15, 2 * 10**15),
    ),
    unique_by=lambda event: (event.uri, event.kind),
    max_size=60,
)


def bodies(plan: Plan) -> list[bytes]:
    return [plan.content[each.start : each.start + each.length] for each in plan.shipments]


def events_in(plan: Plan) -> Counter[tuple[str, str, str, int]]:
    found: Counter[tuple[str, str, str, int]] = Counter()
    for body in bodies(plan):
        events = decode(ProcessEventsRequest.FromString(body).columns)
        assert events.actor_index is not None
        assert events.time_us is not None
        for place in range(len(events)):
            found[
                events.video_ids[events.video_index[place]],
                events.event_types[events.event_type_index[place]],
                events.actor_ids[events.actor_index[place]],
                int(events.time_us[place]),
            ] += 1
    return found


def expected(events: list[Event]) -> Counter[tuple[str, str, str, int]]:
    return Counter((each.video, each.kind, name_of(each.did, "did"), each.time_us) for each in events)


@given(EVENTS, st.data())
def test_a_plan_has_every_event_that_is_not_counted_once(events: list[Event], data: st.DataObject) -> None:
    counted = [event for event in events if data.draw(st.booleans())]
    hashes = read_hashes(unite(NOTHING, np.sort(np.array([hash_of(each) for each in counted], "S16"))))
    rest = [event for event in events if event not in counted]
    plan = make_plan(events, hashes, PARTITIONS)
    if plan is None:
        assert not rest
        return
    assert events_in(plan) == expected(rest)
    planned = plan.content[: plan.hash_count * HASH_BYTES]
    assert {planned[at : at + HASH_BYTES] for at in range(0, len(planned), HASH_BYTES)} == set(
        map(hash_of, rest)
    )
    both = unite(hashes, read_hashes(planned))
    assert len(both) == HASH_BYTES * len(events)
    assert make_plan(events, read_hashes(both), PARTITIONS) is None


@given(EVENTS, st.randoms())
def test_the_same_events_make_the_same_bytes_in_whatever_order(
    events: list[Event], chance: random.Random
) -> None:
    """T002-51"""
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert make_plan(events, NOTHING, PARTITIONS) == make_plan(shuffled, NOTHING, PARTITIONS)


@settings(deadline=None)
@given(EVENTS)
def test_a_shipment_is_one_entry_of_few_events(events: list[Event]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_EVENTS", 7)
        plan = make_plan(events, NOTHING, PARTITIONS)
    for shipment, body in zip(plan.shipments, bodies(plan), strict=True) if plan else []:
        ((partition, entry),) = cut(decode(ProcessEventsRequest.FromString(body).columns), PARTITIONS)
        assert (partition, len(entry)) == (shipment.partition, shipment.event_count)
        assert 1 <= shipment.event_count <= 7


def test_a_hash_that_ends_in_zeros_is_still_found() -> None:
    """numpy drops them from a value."""
    events = [Event(f"at://{n}", "like", "at://v", "did:a", 10**15) for n in range(3_000)]
    assert sum(hash_of(event).endswith(b"\0") for event in events) > 3
    plan = make_plan(events, NOTHING, PARTITIONS)
    assert plan is not None
    assert events_in(plan).total() == 3_000
    assert make_plan(events, read_hashes(plan.content[: 16 * 3_000]), PARTITIONS) is None


def test_a_name_that_is_too_long_for_tally_is_stood_for_by_its_hash() -> None:
    """T002-44"""
    assert name_of("at://short", "at") == "at://short"
    long = [name_of("at://" + "x" * length, "at") for length in (124, 125, 8_000)]
    assert all(each.startswith("at-sha256:") and len(each) <= MAX_ID_BYTES for each in long)
    assert len(set(long)) == 3


def test_a_request_id_is_made_from_the_row_and_has_the_time_of_the_first_send() -> None:
    """T002-41"""
    ids = {
        request_id(identity, number, attempt, 1_750_000_000_123)
        for identity in (("cluster", "dataset", 1, 2, "object"), ("cluster", "dataset", 12, "", "object"))
        for number in (1, 2)
        for attempt in (1, 2)
    }
    assert len(ids) == 8
    assert {time_ms_of(parse_request_id(each)) for each in ids} == {1_750_000_000_123}
    assert request_id(("c",), 1, 1, 5) == request_id(("c",), 1, 1, 5)


def test_the_bytes_of_a_request_are_those_of_the_plan_behind_the_id() -> None:
    plan = make_plan([Event("at://a", "like", "at://v", "did:a", 10**15)], NOTHING, PARTITIONS)
    assert plan is not None
    (body,) = bodies(plan)
    message = ProcessEventsRequest.FromString(request_of("an id", body))
    assert message.request_id == "an id"
    assert message.SerializeToString(deterministic=True) == request_of("an id", body)
