"""A replica's index and the oracle, which get the same random writes."""

import asyncio
from collections.abc import Mapping
from itertools import product
from random import Random

from services.catalog.index import Index, Row
from services.catalog.query import Filter, Query
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
