"""The catalog by brute force: plain sets, and rules read from top to bottom."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from services.catalog.countries import COUNTRIES
from services.catalog.ids import pack
from services.catalog.query import BY_LIST, Filter, Query
from services.catalog.resource_type import ResourceType
from services.catalog.rule import Dimensions, Rule, Viewer


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource with what follows from its details."""

    id: str
    parent: str | None
    keys: frozenset[str]
    scores: Mapping[str, float]


@dataclass(slots=True)
class Oracle:
    """What is stored."""

    types: Mapping[str, ResourceType]
    dimensions: Dimensions
    default_allow: bool = True
    resources: dict[str, Resource] = field(default_factory=dict)
    rules: dict[str, Sequence[Rule]] = field(default_factory=dict)

    def find(
        self, query: Query, from_us: int, until_us: int, lists: Mapping[str, Mapping[str, int]] | None = None
    ) -> list[str]:
        """Every page in one. `lists`: scores by id."""
        lists = lists or {}
        found = [
            each
            for each in self.resources.values()
            if all(_matches(each, filter_, lists) for filter_ in query.filters)
            and (not query.list or each.id in lists[query.list])
            and (query.past_holdbacks or self.may_see(each.id, query.viewer, from_us, until_us))
        ]

        def place(each: Resource) -> tuple[float, int]:
            if query.sort == BY_LIST:
                return lists[query.list][each.id], pack(each.id)
            score = 0.0 if query.sort == "id" else each.scores.get(query.sort, float("-inf"))
            return score, pack(each.id)

        return [each.id for each in sorted(found, key=place, reverse=not query.ascending)]

    def may_see(self, resource_id: str, viewer: Viewer, from_us: int, until_us: int) -> bool:
        """Whether it is allowed at every instant, to everybody whom the viewer may be."""
        times = {from_us, until_us}
        for rules in self.rules.values():
            for rule in rules:
                times |= {time for time in (rule.from_us, rule.to_us) if time is not None}
        return all(
            self._decide(resource_id, Viewer(*codes), time_us)
            for time_us in times
            if from_us <= time_us <= until_us
            for codes in product(
                _codes(viewer.country, COUNTRIES, ("US", "CA", "FR")),
                _codes(viewer.application, self.dimensions.applications),
                _codes(viewer.platform, self.dimensions.platforms),
            )
        )

    def _decide(self, resource_id: str, viewer: Viewer, time_us: int) -> bool:
        for rule in self._rules_of(resource_id):
            if (
                (not rule.countries or viewer.country in rule.countries)
                and (not rule.applications or viewer.application in rule.applications)
                and (not rule.platforms or viewer.platform in rule.platforms)
                and (rule.from_us is None or rule.from_us <= time_us)
                and (rule.to_us is None or time_us < rule.to_us)
            ):
                return rule.allow
        return self.default_allow

    def _rules_of(self, resource_id: str) -> Iterator[Rule]:
        chain = [self.resources[resource_id]]
        while (parent := chain[-1].parent) is not None and self.types[chain[-1].id[-1]].inherits_holdbacks:
            chain.append(self.resources[parent])
        for each in chain:
            yield from sorted(self.rules.get(each.id, ()), key=lambda rule: rule.priority)
        for each in chain:
            ranked = [(rule.priority, key, rule) for key in each.keys for rule in self.rules.get(key, ())]
            yield from (rule for _, _, rule in sorted(ranked, key=lambda one: one[:2]))


def _matches(resource: Resource, of: Filter, lists: Mapping[str, Mapping[str, int]]) -> bool:
    in_lists = any(resource.id in lists.get(key, ()) for key in of.keys)
    return (in_lists or bool(resource.keys & set(of.keys))) is not of.exclude


def _codes(code: str, known: frozenset[str], some: Sequence[str] = ()) -> Sequence[str]:
    """Itself, and for one that is not registered every other, too."""
    return [code] if code in known else [code, *(some or sorted(known))]
