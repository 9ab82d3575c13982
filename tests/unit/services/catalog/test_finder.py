"""The rights are checked again when an answer leaves: nothing that a rule hides since the find began gets out."""

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest

from services.catalog.contents import Contents
from services.catalog.finder import Answer, Finder
from services.catalog.follower import Follower
from services.catalog.freshness import Freshness, Told
from services.catalog.ids import pack
from services.catalog.index import Index, Row
from services.catalog.list_reading import ListReader
from services.catalog.query import BY_LIST, Page, Query
from services.catalog.resource_type import ResourceType
from services.catalog.rule import Dimensions, Rule, Viewer
from services.catalog.view import View
from tally.contract.errors import RightsStale, Unavailable

START_US = 1_700_000_000_000_000
QUERY = Query(Viewer("US", "48", "mobile"), (), "id")


class NoLists:
    """In the place of lists."""

    async def read(self, _names: object, _min_change: int) -> dict[str, dict[int, int]]:
        return {}


NO_LISTS = NoLists()
TOTAL = Page(wants_total=True)


@dataclass
class Replica:
    """A replica whose feed, clock and details a test moves by hand."""

    index: Index
    freshness: Freshness
    view: View
    seconds: float = 0.0
    while_reading: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def read(self, versions: Mapping[str, int], _change: int) -> dict[str, bytes]:
        """In the place of the details: whatever happens while a find waits for them."""
        if self.while_reading:
            await self.while_reading.pop(0)()
        return dict.fromkeys(versions, b"{}")

    async def put_rules(self, subject: str, *rules: Rule) -> None:
        self.index.stage_rules(subject, rules)
        self.view = await self.index.publish(self.view.change + 1)

    async def delete(self, resource_id: str) -> None:
        self.index.stage_deleted(resource_id, ())
        self.view = await self.index.publish(self.view.change + 1)

    async def pass_time(self, seconds: float) -> None:
        self.seconds += seconds

    async def find(self, page: Page = TOTAL, *, query: Query = QUERY, lists: object = NO_LISTS) -> Answer:
        finder = Finder(cast("Follower", self), cast("Contents", self), cast("ListReader", lists), 5_000)
        return await finder.find(query, page, with_details=True, min_change=0)


@pytest.fixture
async def replica() -> Replica:
    index = Index(default_allow=True)
    index.stage_types([ResourceType("v", "video", indexes={"t": "/t"})])
    index.stage_dimensions(Dimensions(frozenset({"48"}), frozenset({"mobile"})))
    for number in range(1, 9):
        index.stage_resource(Row(f"{number}v", None, ("t:a",), {}, 1))
    made: Any = Replica(index, Freshness(60.0, 500.0, lambda: made.seconds), await index.publish(1))
    made.freshness.tell(Told(0.0, 0.0, 0.0, 1, START_US), 1)
    return cast("Replica", made)


async def test_a_rule_that_comes_while_details_are_read_makes_the_find_anew(replica: Replica) -> None:
    """T004-36."""
    replica.while_reading.append(lambda: replica.put_rules("5v", Rule(1, False)))
    answer = await replica.find()
    assert "5v" not in answer.ids
    assert (len(answer.ids), answer.found.total, answer.repeats) == (7, 7, 1)


@pytest.mark.parametrize("page", [Page(2, wants_total=True), Page(2, facets=["t"])], ids=["total", "facets"])
async def test_what_is_only_counted_is_checked_again_too(replica: Replica, page: Page) -> None:
    """The page has 8v and 7v: neither is hidden."""
    replica.while_reading.append(lambda: replica.put_rules("5v", Rule(1, False)))
    answer = await replica.find(page)
    count = answer.found.facets[0].counts if page.facets else answer.found.total
    assert (answer.ids, count) == (["8v", "7v"], [("a", 7)] if page.facets else 7)
    await replica.put_rules("4v", Rule(1, False, from_us=START_US + 10_000_000))
    replica.while_reading.append(lambda: replica.pass_time(11.0))
    answer = await replica.find(page)
    count = answer.found.facets[0].counts if page.facets else answer.found.total
    assert (count, answer.repeats) == ([("a", 6)] if page.facets else 6, 1)


async def test_that_more_follows_is_told_only_of_what_may_be_seen(replica: Replica) -> None:
    replica.while_reading.append(lambda: replica.put_rules("1v", Rule(1, False)))
    answer = await replica.find(Page(7))
    assert (len(answer.ids), answer.found.has_more, answer.next_cursor) == (7, False, None)


async def test_what_changes_while_lists_are_read_makes_no_find_anew(replica: Replica) -> None:
    class SlowLists(NoLists):
        async def read(self, _names: object, _min_change: int) -> dict[str, dict[int, int]]:
            await replica.put_rules("5v", Rule(1, False))
            return {}

    answer = await replica.find(lists=SlowLists())
    assert (answer.found.total, answer.repeats, answer.change) == (7, 0, 2)


@pytest.mark.parametrize(("count", "is_elsewhere"), [(8, False), (3_000, True)])
async def test_large_lists_are_sorted_beside_the_event_loop(
    replica: Replica, count: int, *, is_elsewhere: bool
) -> None:
    threads: set[int] = set()

    class Entries(dict[int, int]):
        def items(self) -> Any:
            raise AssertionError("one by one")

        def values(self) -> Any:
            threads.add(threading.get_ident())
            return super().values()

    class Lists(NoLists):
        async def read(self, _names: object, _min_change: int) -> dict[str, dict[int, int]]:
            return {"list:all": Entries({pack(f"{each}v"): each for each in range(1, count + 1)})}

    query = Query(QUERY.viewer, (), BY_LIST, list="list:all")
    answer = await replica.find(Page(3), query=query, lists=Lists())
    assert answer.ids == ["8v", "7v", "6v"]
    assert (threads != {threading.get_ident()}) is is_elsewhere


async def test_what_is_deleted_meanwhile_is_not_shown(replica: Replica) -> None:
    replica.while_reading.append(lambda: replica.delete("5v"))
    assert "5v" not in (await replica.find()).ids


async def test_a_boundary_that_passes_while_details_are_read_hides_at_once(replica: Replica) -> None:
    """T004-09, T004-41: a second before it, the video is shown; when it may have passed, it is not."""
    await replica.put_rules("5v", Rule(1, False, from_us=START_US + 10_000_000))
    await replica.pass_time(8.9)
    assert "5v" in (await replica.find()).ids
    replica.while_reading.append(
        lambda: replica.pass_time(1.099)
    )  # by the drift of two clocks it may be 10 s
    assert "5v" not in (await replica.find()).ids


async def test_a_window_that_opens_is_open_only_when_it_is_so_for_certain(replica: Replica) -> None:
    await replica.put_rules("5v", Rule(1, False, to_us=START_US + 10_000_000))
    await replica.pass_time(10.001)
    assert "5v" not in (await replica.find()).ids
    await replica.pass_time(0.1)
    assert "5v" in (await replica.find()).ids


async def test_a_find_that_waits_beyond_the_staleness_is_refused(replica: Replica) -> None:
    replica.while_reading.append(lambda: replica.pass_time(61.0))
    with pytest.raises(RightsStale):
        await replica.find()


async def test_a_find_ends_when_the_rules_do_not_come_to_rest(replica: Replica) -> None:
    for number in range(8, 0, -1):
        replica.while_reading.append(partial(replica.put_rules, f"{number}v", Rule(1, False)))
    with pytest.raises(Unavailable, match="rules changed"):
        await replica.find()
