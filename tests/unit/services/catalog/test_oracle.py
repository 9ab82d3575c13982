"""The index against brute force: random writes, then random finds in every strategy, and rights for every viewer."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random

from hypothesis import given, settings, strategies

from services.catalog.finding import find
from services.catalog.ids import unpack
from services.catalog.index import Index, Row
from services.catalog.query import Cursor, Filter, Page, Query
from services.catalog.resource_type import ResourceType
from services.catalog.rule import Dimensions, Rule, Viewer
from services.catalog.view import View
from tests.unit.services.catalog.oracle import Oracle, Resource

TYPES = {
    "c": ResourceType("c", "container", parent="/in", children="parts", indexes={"t": "/t"}),
    "v": ResourceType(
        "v", "video", parent="/in", children="videos", indexes={"t": "/t", "g": "/g/*"}, sorts=("/views",)
    ),
    "w": ResourceType(
        "w", "free", parent="/in", children="loose", inherits_holdbacks=False, indexes={"t": "/t"}
    ),
}
DIMENSIONS = Dimensions(frozenset({"48", "49"}), frozenset({"mobile", "tv"}))
KEYS = ("t:a", "t:b", "g:1", "g:2", "g:3")
IDS = tuple(f"{number}{suffix}" for number in range(1, 5) for suffix in "cvw")
VIEWERS = tuple(
    Viewer(*codes)
    for codes in product(("US", "CA", "FR", "XX"), ("48", "49", "new"), ("mobile", "tv", "new"))
)
LATEST = 6


class World:
    """A replica's index and the oracle, which get the same random writes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        default_allow = random.random() < 0.7
        self.oracle = Oracle(TYPES, DIMENSIONS, default_allow)
        self.index = Index(default_allow=default_allow)
        self.index.stage_types(TYPES.values())
        self.index.stage_dimensions(DIMENSIONS)
        self.index.begin_moves(0)
        self.change = 0
        self.history: list[tuple[int, str, Mapping[str, float] | None]] = []
        self.removed: dict[str, set[str]] = {}

    def write(self) -> None:
        """One random write."""
        choice = self.random.random()
        if choice < 0.55:
            self.put(self.random.choice(IDS))
        elif choice < 0.7:
            self.delete(self.random.choice(IDS))
        else:
            self.put_rules(self.random.choice(IDS + KEYS))

    def put(self, resource_id: str) -> None:
        of, random = TYPES[resource_id[-1]], self.random
        containers = [each for each in self.oracle.resources if each[-1] == "c"]
        parent = random.choice([None, *containers, *containers])
        if parent is not None and self.is_below(parent, resource_id):
            parent = None
        keys = {key for key in random.sample(KEYS, 2) if key.partition(":")[0] in of.indexes}
        if parent is not None:
            keys.add(f"{parent}:{of.children}")
        scores = {"views": float(random.randrange(3))} if of.sorts and random.random() < 0.7 else {}
        self.leave(resource_id, keys)
        resource = Resource(resource_id, parent, frozenset(keys), scores)
        self.oracle.resources[resource_id] = resource
        self.change += 1
        self.history.append((self.change, resource_id, scores))

    def delete(self, resource_id: str) -> None:
        if not any(each.parent == resource_id for each in self.oracle.resources.values()):
            self.leave(resource_id, set())
            self.oracle.resources.pop(resource_id, None)
            self.change += 1
            self.history.append((self.change, resource_id, None))

    def put_rules(self, subject: str) -> None:
        rules = [self.make_rule(priority) for priority in range(self.random.randrange(4))]
        self.oracle.rules[subject] = rules
        self.index.stage_rules(subject, rules)

    def make_rule(self, priority: int) -> Rule:
        random = self.random

        def some(*codes: str) -> frozenset[str]:
            return (
                frozenset(random.sample(codes, random.randrange(1, 3)))
                if random.random() < 0.4
                else frozenset()
            )

        start = random.choice([None, None, random.randrange(LATEST)])
        end = random.choice([None, None, (start or 0) + random.randrange(1, LATEST)])
        codes = some("US", "CA"), some("48", "49"), some("mobile", "tv")
        return Rule(priority, random.random() < 0.4, *codes, start, end)

    def publish(self) -> View:
        """As a replica does: with the newest content, and all sets that were left since the last view."""
        for change, resource_id, scores in self.history:
            self.index.stage_move(change, resource_id, scores)
        self.history.clear()
        for resource_id, removed in self.removed.items():
            resource = self.oracle.resources.get(resource_id)
            if resource is None:
                self.index.stage_deleted(resource_id, removed)
                continue
            row = Row(resource_id, resource.parent, sorted(resource.keys), resource.scores, self.change)
            self.index.stage_resource(row, removed)
        self.removed.clear()
        self.change += 1
        return asyncio.run(self.index.publish(self.change))

    def leave(self, resource_id: str, keys: set[str]) -> None:
        old = self.oracle.resources.get(resource_id)
        self.removed.setdefault(resource_id, set()).update((old.keys if old else frozenset()) - keys)

    def is_below(self, resource_id: str | None, other: str) -> bool:
        while resource_id is not None and resource_id != other:
            resource_id = self.oracle.resources[resource_id].parent
        return resource_id is not None

    def make_query(self) -> Query:
        random = self.random
        keys = [*KEYS, "1c:videos", "2c:parts"]
        filters = [
            Filter(tuple(random.sample(keys, random.randrange(1, 4))), random.random() < 0.3)
            for _ in range(random.randrange(3))
        ]
        return Query(
            random.choice(VIEWERS), tuple(filters), random.choice(["id", "views"]), random.random() < 0.3
        )

    def make_window(self) -> tuple[int, int]:
        start = self.random.randrange(-1, LATEST + 2)
        return start, start + self.random.choice([0, 0, 1, 3])


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
