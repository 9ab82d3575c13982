"""The simulated accounts: the same from the same seed, and with everything that a backfill must tell apart."""

from collections import Counter

from libs.atproto.syntax import is_at_uri, is_did
from loadtests.simulators.limits import Window
from loadtests.simulators.network import did_of, make_network

NETWORK = make_network(30, seed=3)


def test_the_same_seed_makes_the_same_world() -> None:
    again = make_network(30, seed=3)
    assert (again.world.records, again.truth) == (NETWORK.world.records, NETWORK.truth)
    assert make_network(30, seed=4).truth != NETWORK.truth


def test_a_made_did_is_of_the_alphabet_of_did_plc() -> None:
    """T002-22"""
    for number in range(100):
        did = did_of(number)
        assert is_did(did)
        assert len(did) == 32
        assert set(did.removeprefix("did:plc:")) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_the_truth_has_posts_likes_and_reposts_of_videos_alone() -> None:
    kinds = Counter(kind for _, kind in NETWORK.truth)
    assert kinds.keys() == {"post", "like", "repost"}
    assert all(is_at_uri(video) for video, _ in NETWORK.truth)
    assert {video for video, _ in NETWORK.truth} <= NETWORK.world.videos
    without_first = NETWORK.world.truth(NETWORK.dids[1:])
    assert without_first.total() < NETWORK.truth.total()
    assert not any(NETWORK.dids[0] in video for video, _ in without_first)


def test_a_window_refuses_what_is_over_its_limit_and_says_when_it_ends() -> None:
    now = 1_000.0
    window = Window(limit=2, seconds=300, clock=lambda: now)
    assert [window.take()[0] for _ in range(3)] == [True, True, False]
    assert window.take()[1] == {
        "ratelimit-limit": "2",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "1200",
        "ratelimit-policy": "2;w=300",
    }
    now = 1_200.0
    assert window.take()[0]
    assert (window.calls, window.refused) == ({3: 2, 4: 1}, 2)
