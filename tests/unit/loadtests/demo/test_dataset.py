from datetime import date
from typing import Any

import pytest

from loadtests.demo.__main__ import FILE
from loadtests.demo.dataset import parse_day, read_dataset, sort_out


def line(video_id: str = "MBdVXkSdhwU", day: str = "13.09", views: int = 1, **other: Any) -> dict[str, str]:
    fields = {"video_id": video_id, "title": "a title", "views": views, "likes": 2, "comment_total": 3}
    return {name: str(value) for name, value in {**fields, "date": day, **other}.items()}


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("13.09", date(2017, 9, 13)),
        ("1.09", date(2017, 9, 1)),
        ("9.1", date(2017, 10, 9)),
        ("22.1", date(2017, 10, 22)),
    ],
)
def test_a_date_is_day_and_month(text: str, day: date) -> None:
    assert parse_day(text) == day


@pytest.mark.parametrize(
    "text", ["100", "24.09xcaeyJTx4Co", "", "13.9", "13.10", "31.09", "0.1", "113.09", "13.09 ", "१.1"]
)
def test_a_date_of_another_form_is_none(text: str) -> None:
    assert parse_day(text) is None


@pytest.mark.parametrize(
    "video_id", ["#NAME?", "", "MBdVXkSdhw", "MBdVXkSdhwUU", "MBdVXkSdhw\n", "MBdVXkSdhwé"]
)
def test_a_row_without_a_video_id_is_skipped(video_id: str) -> None:
    dataset = sort_out([line(video_id), line()])
    assert (len(dataset.rows), dataset.bad_id_count, dataset.row_count) == (1, 1, 2)


def test_a_row_that_lacks_both_counts_as_one_without_an_id() -> None:
    dataset = sort_out([line("#NAME?", "100")])
    assert (dataset.bad_id_count, dataset.bad_date_count) == (1, 0)


def test_of_two_rows_of_one_video_and_day_the_later_line_holds() -> None:
    dataset = sort_out([line(views=5), line(day="14.09", views=6), line(views=4)])
    assert [row.views for row in dataset.rows] == [4, 6]
    assert dataset.replaced_count == 1


def test_the_title_is_that_of_the_last_day() -> None:
    dataset = sort_out([line(day="9.1", title="new"), line(day="13.09", title="old")])
    assert dataset.titles == {"MBdVXkSdhwU": "new"}


def test_the_file_has_the_oddities_that_its_readme_names() -> None:
    dataset = read_dataset(FILE)
    assert (dataset.row_count, dataset.bad_id_count, dataset.bad_date_count) == (7998, 101, 6)
    assert dataset.replaced_count == 5
    assert len(dataset.rows) == 7998 - 101 - 6 - 5
    assert {row.day for row in dataset.rows} >= {date(2017, 9, 13), date(2017, 10, 9), date(2017, 10, 22)}
