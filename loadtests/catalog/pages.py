"""What a run of finds knows of its resources, and what is wrong with a page."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tally.catalog.v1 import find_pb2


@dataclass(slots=True)
class _Resource:
    is_hidden: bool | None = False
    """None: a change had no answer"""
    is_busy: bool = False
    writes: int = 0
    """begun or ended: if two looks find the same number, there was none in between"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was known when a call began: of each resource without a write under way, its number of writes."""

    hidden: Mapping[str, int]
    shown: Mapping[str, int]


@dataclass(slots=True)
class Pages:
    """The resources of a run."""

    name: str
    ids: Sequence[str]
    wrong: list[str] = field(default_factory=list)
    checked: int = 0
    _resources: dict[str, _Resource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._resources = {each: _Resource() for each in self.ids}

    def choose(self) -> str | None:
        """A resource that nobody writes now; None if there is none."""
        free = [each for each, resource in self._resources.items() if not resource.is_busy]
        return random.choice(free) if free else None

    @contextmanager
    def writing(self, resource_id: str) -> Iterator[None]:
        """A put, after which the resource is as visible as before, whether it had an answer or not."""
        resource = self._resources[resource_id]
        resource.is_busy = True
        try:
            yield
        finally:
            resource.is_busy = False

    @contextmanager
    def hiding(self, resource_id: str, *, is_hidden: bool) -> Iterator[Callable[[], None]]:
        """A change of rules; the callable says that it had its answer."""
        resource = self._resources[resource_id]
        resource.is_busy, resource.is_hidden = True, None
        resource.writes += 1

        def done() -> None:
            resource.is_hidden = is_hidden

        try:
            yield done
        finally:
            resource.is_busy = False
            resource.writes += 1

    def note(self) -> Seen:
        """To be called before a find."""
        return Seen(*(
            {each: resource.writes for each, resource in self._resources.items() if resource.is_hidden is hidden}
            for hidden in (True, False)
        ))  # fmt: skip

    def check(self, seen: Seen, page: find_pb2.FindResponse) -> None:
        """A first page that had the total and the facet `kind`."""
        ids = [item.id for item in page.items]
        self._check_ids(seen, ids)
        places = [(item.score, int(item.id[:-1])) for item in page.items]
        self._expect(places == sorted(places, reverse=True), f"a page is not in its order: {places}")
        self._expect(
            page.has_more is (page.total > len(ids)), f"a page of {len(ids)} of {page.total} says otherwise"
        )
        most = max((value.count for value in page.facets[0].values), default=0)
        self._expect(most <= page.total, f"a value occurs {most} times among {page.total}")

    def check_walk(self, seen: Seen, walked: Sequence[str]) -> None:
        """The ids of all pages of a walk over everything."""
        self._check_ids(seen, walked)
        steady = {each for each, writes in seen.shown.items() if self._resources[each].writes == writes}
        if missing := steady.difference(walked):
            self.wrong.append(f"a walk has left out {sorted(missing)}")

    def check_end(self, page: find_pb2.FindResponse) -> None:
        """A page of everything, when nobody writes any more."""
        self.check_walk(self.note(), [item.id for item in page.items])
        self._expect(
            page.total == len(page.items), f"at the end the total is {page.total}, of {len(page.items)}"
        )

    def _check_ids(self, seen: Seen, ids: Sequence[str]) -> None:
        self.checked += 1
        self._expect(len(set(ids)) == len(ids), f"an id comes twice: {ids}")
        shown = [each for each in ids if seen.hidden.get(each, -1) == self._resources[each].writes]
        self._expect(not shown, f"hidden, and shown: {shown}")

    def _expect(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            self.wrong.append(otherwise)
