"""What the load test of the catalog takes for wrong."""

from collections.abc import Sequence

import pytest

from loadtests.catalog.pages import Pages
from tally.catalog.v1 import find_pb2


def page_of(ids: Sequence[str], *, total: int | None = None, has_more: bool = False) -> find_pb2.FindResponse:
    """A page of the highest scores first."""
    return find_pb2.FindResponse(
        items=[find_pb2.Item(id=each, score=-place) for place, each in enumerate(ids)],
        total=len(ids) if total is None else total,
        has_more=has_more,
        facets=[find_pb2.Facet(name="kind")],
    )


@pytest.fixture
def pages() -> Pages:
    return Pages("a", ["1z", "2z", "3z"])


def hide(pages: Pages, resource_id: str, *, has_answer: bool = True) -> None:
    with pages.hiding(resource_id, is_hidden=True) as done:
        if has_answer:
            done()


def test_what_was_hidden_before_a_find_and_until_its_end_must_not_be_on_its_page(pages: Pages) -> None:
    hide(pages, "2z")
    seen = pages.note()
    pages.check(seen, page_of(["3z", "1z"]))
    assert pages.wrong == []
    pages.check(seen, page_of(["3z", "2z"]))
    assert pages.wrong == ["hidden, and shown: ['2z']"]


def test_what_is_hidden_meanwhile_or_without_an_answer_may_be_on_it_or_not(pages: Pages) -> None:
    seen = pages.note()
    hide(pages, "2z")
    hide(pages, "3z", has_answer=False)
    for ids in (["3z", "2z", "1z"], ["1z"]):
        pages.check(seen, page_of(ids))
        pages.check_walk(seen, ids)
    assert pages.wrong == []


def test_an_id_that_comes_twice_or_is_left_out_of_a_walk_is_wrong(pages: Pages) -> None:
    seen = pages.note()
    pages.check_walk(seen, ["3z", "2z", "2z"])
    assert pages.wrong == ["an id comes twice: ['3z', '2z', '2z']", "a walk has left out ['1z']"]


def test_a_page_out_of_order_or_with_another_total_is_wrong(pages: Pages) -> None:
    seen = pages.note()
    page = page_of(["3z", "2z"], total=3)
    page.items.reverse()
    pages.check(seen, page)
    assert len(pages.wrong) == 2
