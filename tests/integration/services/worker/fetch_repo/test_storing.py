"""Storing: what is verified is delivered once it is durable, also when the backfill service is away for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from libs.stores.objects import Objects, folder_url
from services.worker.handlers.fetch_repo import storing as module
from services.worker.handlers.fetch_repo.checkpoint import Checkpoint
from services.worker.handlers.fetch_repo.storing import Storing
from services.worker.settings import FetchSettings
from tally.backfill.v1 import delivery_pb2 as pb
from tally.contract.errors import Unavailable
from tests.integration.services.worker.fetch_repo.test_checkpoint import make_fetched
from tests.support.eventually import eventually

FAST = FetchSettings(checkpoint_seconds=0.01, linger_seconds=0.0)


@dataclass
class Backfill:
    """Takes deliveries; while it is away it refuses them."""

    taken: list[pb.DeliverRequest] = field(default_factory=list)
    is_away: bool = False
    refused: int = 0
    at_delivery: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_go_on.set()

    async def deliver(self, request: pb.DeliverRequest) -> None:
        self.at_delivery.set()
        await self.may_go_on.wait()
        if self.is_away:
            self.refused += 1
            raise Unavailable("away")
        self.taken.append(request)

    @property
    def dids(self) -> list[str]:
        return [repo.did for request in self.taken for repo in request.repos]


class Clock:
    """The time of the event loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now_us(self) -> int:
        return 0


@asynccontextmanager
async def open_storing(folder: Path, backfill: Any, settings: FetchSettings = FAST) -> AsyncIterator[Storing]:
    checkpoint = Checkpoint(folder / "fetched")
    objects = Objects(folder_url(folder / "objects"))
    storing = Storing(checkpoint, objects, backfill, Clock(), settings)
    loops = [asyncio.create_task(storing.keep()), asyncio.create_task(storing.deliver())]
    try:
        yield storing
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        checkpoint.close()


async def test_what_is_kept_is_delivered_in_parts_that_are_in_the_store(tmp_path: Path) -> None:
    backfill = Backfill()
    async with open_storing(tmp_path, backfill) as storing:
        await asyncio.gather(*(storing.add(make_fetched(f"did:{number}")) for number in range(5)))
        await asyncio.wait_for(asyncio.gather(*(storing.stored(f"did:{n}") for n in range(5))), 5)
        assert not storing.has("did:0")
    assert sorted(backfill.dids) == [f"did:{number}" for number in range(5)]
    for request in backfill.taken:
        for part in request.parts:
            assert (tmp_path / "objects" / part.name).stat().st_size == part.byte_count


async def test_nothing_leaves_while_more_is_fetched_unless_it_is_old_or_much(tmp_path: Path) -> None:
    """T002-06"""
    backfill = Backfill()
    async with open_storing(tmp_path, backfill) as storing:
        with storing.fetching():
            await storing.add(make_fetched("did:a"))
            await asyncio.sleep(0.3)
            assert backfill.dids == []
        await asyncio.wait_for(storing.stored("did:a"), 5)
    old = FAST.model_copy(update={"part_seconds": 0.1})
    async with open_storing(tmp_path, backfill, old) as storing:
        with storing.fetching():
            await storing.add(make_fetched("did:b"))
            await asyncio.wait_for(storing.stored("did:b"), 5)
        assert backfill.dids == ["did:a", "did:b"]


async def test_while_the_backfill_service_is_away_accounts_stay_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    backfill = Backfill(is_away=True)
    async with open_storing(tmp_path, backfill) as storing:
        await storing.add(make_fetched("did:a"))

        async def is_refused_twice() -> bool:
            return backfill.refused >= 2

        await eventually(is_refused_twice, 5)
        assert storing.has("did:a")
    # A new life on the same volume, and the service is back.
    backfill.is_away = False
    async with open_storing(tmp_path, backfill) as storing:
        assert storing.has("did:a")
        await asyncio.wait_for(storing.stored("did:a"), 5)
    assert backfill.dids == ["did:a"]


@pytest.mark.exact
async def test_an_account_that_comes_again_while_it_leaves_keeps_its_rows(tmp_path: Path) -> None:
    backfill = Backfill()
    backfill.may_go_on.clear()
    async with open_storing(tmp_path, backfill) as storing:
        await storing.add(make_fetched("did:a", count=4))
        await asyncio.wait_for(backfill.at_delivery.wait(), 5)
        await storing.add(make_fetched("did:a", count=9))
        stored = storing.stored("did:a")
        backfill.may_go_on.set()
        await asyncio.wait_for(stored, 5)
        assert not storing.has("did:a")
    (request,) = backfill.taken
    assert [repo.record_count for repo in request.repos] == [8]
    assert sum(part.row_count for part in request.parts) == 8
