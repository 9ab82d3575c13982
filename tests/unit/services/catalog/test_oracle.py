"""The index against brute force: random writes, then random finds in every strategy, and rights for every viewer."""

import asyncio
from collections.abc import Sequence
from random import Random

from hypothesis import given, settings, strategies

from services.catalog.finding import find
from services.catalog.ids import unpack
from services.catalog.index import Index, Row
from services.catalog.query import Cursor, Page, Query
from services.catalog.resource_type import ResourceType
from services.catalog.view import View
from tests.unit.services.catalog.world import IDS, VIEWERS, World


def check_rights(world: World, view: View) -> None:
    window = world.make_window()
    for viewer in VIEWERS:
        visible = view.rights.keep_visible(view.live, viewer, *window)
        expected = {each for each in world.oracle.resources if world.oracle.may_see(each, viewer, *window)}
        assert {unpack(view.ids.packed[each]) for each in visible} == expected, (viewer, window)
        for ordinal in view.live:
            assert view.rights.is_visible(ordinal, viewer, *window) is (ordinal in visible)


def check_find(world: World, view: View) -> None:
    query, window, random = world.make_query(), world.make_window(), world.random
    expected = world.oracle.find(query, *window)
    size, most = random.randrange(1, 5), random.choice([1, 10_000])
    walked: list[str] = []
    after: Cursor | None = None
    while True:
        page = find(view, query, Page(size, after, True, ("g", "~g")), window, most)
        assert page.total == len(expected)
        walked += [unpack(view.ids.packed[each]) for each in page.ordinals]
        if not page.has_more:
            break
        after = Cursor(view.change, page.places[-1])
    assert walked == expected
    others = tuple(each for each in query.filters if not all(key.startswith("g:") for key in each.keys))
    free = world.oracle.find(Query(query.viewer, others, query.sort), *window)
    for facet, ids in zip(page.facets, (expected, free), strict=True):
        assert {value: count for value, count in facet.counts if count} == count_genres(world, ids)


def count_genres(world: World, ids: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for resource_id in ids:
        for key in world.oracle.resources[resource_id].keys:
            if key.startswith("g:"):
                counts[key[2:]] = counts.get(key[2:], 0) + 1
    return counts


def check_nothing_deleted_is_left(view: View) -> None:
    for members in [*view.sets.values(), *view.rights.groups.values()]:
        assert members <= view.live
    for order in view.orders.values():
        assert sorted(order.ordinals.tolist()) == list(view.live)


@given(seed=strategies.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_finds_and_rights_are_those_of_brute_force(seed: int) -> None:
    world = World(Random(seed))
    for _ in range(8):
        for _ in range(world.random.randrange(1, 8)):
            world.write()
        view = world.publish()
        check_rights(world, view)
        check_nothing_deleted_is_left(view)
        for _ in range(3):
            check_find(world, view)


@given(seed=strategies.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_walk_shows_what_matches_all_the_time_once_in_the_order_of_its_first_page(seed: int) -> None:
    """T004-22, T004-46: while scores move, on replicas that publish at changes of their own."""
    random = Random(seed)
    world = World(random)
    for _ in range(20):
        world.put(random.choice(IDS))
    view = world.publish()
    query = Query(VIEWERS[0], (), "views", random.random() < 0.5)
    first = world.oracle.find(query, 0, 0)
    version, steady, walked = view.change, set(first), list[str]()
    after: Cursor | None = None
    while True:
        page = find(view, query, Page(2, after), (0, 0), random.choice([1, 10_000]))
        assert not page.order_changed
        walked += [unpack(view.ids.packed[each]) for each in page.ordinals]
        if not page.has_more:
            break
        after = Cursor(version, page.places[-1])
        for _ in range(random.randrange(4)):
            if random.random() < 0.3:
                world.delete(random.choice(IDS))
            else:
                world.put(random.choice(IDS))
            steady &= set(world.oracle.find(query, 0, 0))
        view = world.publish()
    assert len(walked) == len(set(walked))
    assert [each for each in walked if each in steady] == [each for each in first if each in steady]
    assert set(walked) <= set(first)


def test_a_version_that_is_not_kept_is_told() -> None:
    world = World(Random(1))
    world.put("1v")
    world.index.begin_moves(5)
    view = world.publish()
    page = find(view, Query(VIEWERS[0], (), "id"), Page(after=Cursor(4, (0.0, 1 << 40))), (0, 0), 100)
    assert page.order_changed


def test_a_sort_that_is_new_has_no_value_of_what_was_there_before() -> None:
    """T004-47: a resource of another type must not come above one whose value is below 0."""
    index = Index(default_allow=True)
    index.stage_types([ResourceType("v", "video")])
    index.stage_resource(Row("1v", None, (), {}, 1))
    asyncio.run(index.publish(1))
    index.stage_types([ResourceType("v", "video"), ResourceType("w", "free", sorts=("/views",))])
    index.stage_resource(Row("2w", None, (), {"views": -1.0}, 2))
    view = asyncio.run(index.publish(2))
    page = find(view, Query(VIEWERS[0], (), "views"), Page(), (0, 0), 100)
    assert [unpack(view.ids.packed[each]) for each in page.ordinals] == ["2w", "1v"]
