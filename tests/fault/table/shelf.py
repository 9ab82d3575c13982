"""Writes, rules and finds on the catalog, by somebody who keeps in mind what may be shown.

One task puts and deletes, another hides and shows, and some find, by the door and at each process. A find must not show
what was hidden, or gone everywhere, before it began and until it ended.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tally.catalog.v1 import find_pb2, resource_pb2, rights_pb2
from tally.client import Client, TallyError
from tests.fault.table.patience import until_done
from tests.support.reach import open_client

_VIEWER = rights_pb2.Viewer(country="us", application="shelf", platform="shelf")
_TYPE = resource_pb2.Type(suffix="z", name="shelf", indexes={"shelf": "/shelf"}, sorts=["/rank"])
_KINDS = {
    "application": rights_pb2.DIMENSION_KIND_APPLICATION,
    "platform": rights_pb2.DIMENSION_KIND_PLATFORM,
}
_ITEMS = 40
_PAUSE_SECONDS = 0.05
_SETTLED_SECONDS = 150.0
_MOST = 5

T = TypeVar("T")
Work = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Item:
    """What is known for certain; None while a write of it is under way, or had no answer."""

    is_there: bool | None = False
    is_hidden: bool | None = False
    writes: int = 0
    """begun or ended: if two looks find the same number, there was no write in between"""

    @property
    def must_be_away(self) -> bool:
        return self.is_there is False or self.is_hidden is True


@dataclass(slots=True)
class Shelf:
    """The items of a round, and what was wrong with answers."""

    name: str
    chance: random.Random
    doors: Sequence[Client]
    """by which anybody finds"""
    processes: Sequence[Client]
    items: dict[str, _Item] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    finds: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    change: int = 0

    @property
    def denial(self) -> list[rights_pb2.Rule]:
        """Hides an item from the viewer."""
        return [rights_pb2.Rule(allow=False, priority=1, countries=["US"])]

    def note_hidden(self, resource_id: str) -> None:
        """The fault has hidden it."""
        item = self.items[resource_id]
        item.is_hidden, item.writes = True, item.writes + 1

    async def prepare(self) -> None:
        """The type, the codes, and items that nobody can see by their ids alone."""
        catalog = self.processes[0].catalog
        codes = {each.kind: set(each.codes) for each in await catalog.list_dimensions()}
        for name, kind in _KINDS.items():
            await catalog.put_dimension(name, codes.get(kind, set()) | {"shelf"})
        change = await catalog.put_type(_TYPE)
        for client in self.processes:  # each has to know the type before anybody finds by it
            await client.catalog.find(self._request(min_change=change))
        base = self.chance.randrange(1, 10**9) * 1_000
        self.items = {f"{base + number}z": _Item() for number in range(_ITEMS)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write and find within this block, and come to rest at its end."""
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(self._again(work, stopping)) for work in (self._write, self._rule)]
        tasks += [
            asyncio.create_task(self._again(partial(self._find, client), stopping))
            for client in (*self.doors, *self.processes)
        ]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*tasks)

    async def check(self) -> list[str]:
        """Settle what is not known, and compare each process with it; what was wrong, now and before."""
        for each in self.items:
            await self._until_done(partial(self._put, each))
            await self._until_done(partial(self._hide, each, is_hidden=False))
        gone, hidden = list(self.items)[:10], list(self.items)[10:20]
        for each in gone:
            await self._until_done(partial(self._delete, each))
        for each in hidden:
            await self._until_done(partial(self._hide, each, is_hidden=True))
        expected = [each for each in self.items if each not in gone and each not in hidden]
        for client in self.processes:
            page = await client.catalog.find(self._request(min_change=self.change))
            found = sorted((item.id for item in page.items), key=lambda each: int(each[:-1]))
            if found != expected or page.total != len(expected):
                self.wrong.append(f"at rest {client.address} finds {found} of {page.total}, not {expected}")
        self.wrong += await self._verify()
        return self.wrong[:_MOST]

    async def _verify(self) -> list[str]:
        catalog, cursor, wrong = self.processes[0].catalog, "", list[str]()
        while True:
            piece = await self._until_done(partial(catalog.verify_projection, cursor))
            wrong += [f"projection: {each.key} {each.description}" for each in piece.problems]
            cursor = piece.next_cursor
            if not cursor:
                return wrong

    async def _until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_done(work, _SETTLED_SECONDS, self.failures)

    async def _again(self, work: Work, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await work()
            except TallyError as error:
                self.failures[error.reason] += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    # Each write

    async def _write(self) -> None:
        resource_id, item = self.chance.choice(list(self.items.items()))
        item.is_there, item.writes = None, item.writes + 1
        if self.chance.random() < 0.8:
            await self._put(resource_id)
            item.is_there = True
        else:
            await self._delete(resource_id)
            item.is_there = False
        item.writes += 1

    async def _rule(self) -> None:
        """Of any item but the first, whose rules are those of the fault."""
        resource_id, item = self.chance.choice(list(self.items.items())[1:])
        is_hidden = self.chance.random() < 0.5
        item.is_hidden, item.writes = None, item.writes + 1
        await self._hide(resource_id, is_hidden=is_hidden)
        item.is_hidden, item.writes = is_hidden, item.writes + 1

    async def _put(self, resource_id: str) -> None:
        details = f'{{"shelf":"{self.name}","rank":{self.chance.randrange(5)}}}'
        answer = await self._any().catalog.put(resource_id, details.encode(), timeout=5.0)
        self.change = max(self.change, answer.version)

    async def _delete(self, resource_id: str) -> None:
        change = await self._any().catalog.delete(resource_id, everywhere=True)
        self.change = max(self.change, change)

    async def _hide(self, resource_id: str, *, is_hidden: bool) -> None:
        rules = self.denial if is_hidden else []
        answer = await self._any().catalog.put_rules(resource_id, rules)
        self.change = max(self.change, answer.change)

    def _any(self) -> Client:
        return self.chance.choice(self.processes)

    # Each find

    def _request(self, min_change: int = 0) -> find_pb2.FindRequest:
        return find_pb2.FindRequest(
            viewer=_VIEWER,
            filters=[find_pb2.Filter(any=[f"shelf:{self.name}"])],
            sort="rank",
            page_size=500,
            total=True,
            min_change=min_change,
        )

    async def _find(self, client: Client) -> None:
        before: Mapping[str, int] = {
            each: item.writes for each, item in self.items.items() if item.must_be_away
        }
        page = await client.catalog.find(self._request(), timeout=5.0)
        self.finds += 1
        ids = [each.id for each in page.items]
        shown = [each for each in ids if before.get(each) == self.items[each].writes]
        if shown:
            self.wrong.append(f"{client.address} shows {shown}, which must not be shown")
        if len(set(ids)) < len(ids) or page.total != len(ids):
            self.wrong.append(
                f"{client.address} shows {len(ids)} items, some twice, of a total of {page.total}"
            )


@asynccontextmanager
async def open_shelf(
    name: str, chance: random.Random, doors: Sequence[str], processes: Sequence[str]
) -> AsyncIterator[Shelf]:
    """A shelf of this name, reached at these addresses."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(address, timeout=10.0))
            for address in (*doors, *processes)
        ]
        shelf = Shelf(name, chance, clients[: len(doors)], clients[len(doors) :])
        await shelf.prepare()
        yield shelf
