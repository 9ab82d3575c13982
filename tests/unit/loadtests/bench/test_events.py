"""The events of a run, and how they are cut."""

from collections import Counter

import numpy as np
import pytest

from loadtests.bench.events import EVENT_TYPES, HOT, ZIPF, Cursor, Mix, make_events, sum_pairs


def test_the_same_seed_makes_the_same_events_and_another_others() -> None:
    first, again, other = (make_events(2_000, ZIPF, seed) for seed in (1, 1, 2))
    assert first.video_ids[first.video].tolist() == again.video_ids[again.video].tolist()
    assert first.event_type.tolist() == again.event_type.tolist()
    assert first.video_ids[first.video].tolist() != other.video_ids[other.video].tolist()


def test_videos_follow_a_bounded_zipf_law_of_exponent_1_1() -> None:
    n, videos = 200_000, 1_000
    events = make_events(n, Mix("small", videos), seed=1)
    counts = np.sort(np.bincount(events.video))[::-1]
    weights = np.arange(1, videos + 1) ** -1.1
    expected = n * weights / weights.sum()
    assert len(counts) <= videos
    # The standard deviation of a count is about the root of it: five of them.
    assert np.all(np.abs(counts[:20] - expected[:20]) < 5 * np.sqrt(expected[:20]))
    assert counts[500:].sum() == pytest.approx(expected[500:].sum(), rel=0.1)


def test_the_five_types_are_as_frequent_as_each_other() -> None:
    events = make_events(50_000, ZIPF, seed=1)
    assert np.bincount(events.event_type, minlength=len(EVENT_TYPES)) == pytest.approx(10_000, rel=0.05)


def test_half_of_the_hot_mix_is_one_video() -> None:
    shares = []
    for mix in (ZIPF, HOT):
        events = make_events(50_000, mix, seed=1)
        shares.append(np.bincount(events.video).max() / len(events))
    assert shares[1] == pytest.approx(0.5 + shares[0] / 2, abs=0.01)


def test_every_video_has_an_id_of_its_own_that_looks_like_one() -> None:
    ids = make_events(50_000, ZIPF, seed=1).video_ids.tolist()
    assert len(set(ids)) == len(ids)
    assert {len(video_id) for video_id in ids} == {11}
    assert ids != sorted(ids)  # the popular are not neighbours in an index


def test_a_cursor_gives_out_every_event_once_a_pass() -> None:
    events = make_events(1_050, ZIPF, seed=1)
    cursor = Cursor(events, 100)
    requests = list(cursor.take_up_to(1_050))
    assert [len(request) for request in requests] == [100] * 10 + [50]
    assert np.concatenate([request.video for request in requests]).tolist() == events.video.tolist()
    assert cursor.take().video.tolist() == events.video[:100].tolist()
    assert cursor.taken == 1_150


def test_the_pairs_of_a_request_are_its_events_summed() -> None:
    events = make_events(1_000, ZIPF, seed=1)
    request = Cursor(events, 1_000).take()
    pairs = sum_pairs(request)
    names = zip(events.video_ids[events.video].tolist(), events.event_type.tolist(), strict=True)
    expected = Counter((video_id, EVENT_TYPES[number]) for video_id, number in names)
    assert (
        dict(zip(zip(pairs.video_ids, pairs.event_types, strict=True), pairs.counts, strict=True)) == expected
    )
    assert len(pairs.counts) == len(expected)
