from datetime import date

from loadtests.demo.__main__ import FILE
from loadtests.demo.dataset import read_dataset
from loadtests.demo.oracle import make_oracle
from loadtests.demo.rises import Rise, find_rises

FIRST, SECOND = date(2017, 9, 13), date(2017, 9, 14)


def test_rises_add_up_by_video_and_by_day() -> None:
    rises = [Rise("a", "view", FIRST, 3), Rise("a", "view", SECOND, 4), Rise("a", "like", FIRST, 5)]
    oracle = make_oracle(["a", "b", "a"], rises)
    assert oracle.video_ids == ("a", "b")
    assert (oracle.of_video["a", "view"], oracle.of_video["b", "view"]) == (7, 0)
    assert (oracle.of_day["a", "view", SECOND], oracle.of_day["a", "like", SECOND]) == (4, 0)
    assert oracle.of_type == {"view": 7, "like": 5, "comment": 0}
    assert oracle.event_count == 12
    assert oracle.busy_day == {"a": SECOND}


def test_the_file_implies_the_totals_that_its_readme_names() -> None:
    dataset = read_dataset(FILE)
    oracle = make_oracle((row.video_id for row in dataset.rows), find_rises(dataset.rows))
    assert oracle.of_type == {"view": 2_171_399, "like": 742_317, "comment": 95_656}
    assert len(oracle.video_ids) == 2_334
    assert len(oracle.busy_day) == 2_330
    views = {video_id: oracle.of_video[video_id, "view"] for video_id in oracle.video_ids}
    assert max(views.items(), key=lambda each: each[1]) == ("MBdVXkSdhwU", 41_498)
