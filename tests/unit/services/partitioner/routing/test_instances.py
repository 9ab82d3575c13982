"""Shards that come, go, freeze and drain while entries are on their way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from libs.domain.entry import Outcome
from libs.rpc.probe import NoAnswer
from libs.runtime.background import Background, LoopDied, open_background
from services.partitioner.routing import instances
from services.partitioner.routing.discovery import Discovery
from services.partitioner.routing.instance import Instance
from services.partitioner.routing.instances import Instances
from services.partitioner.routing.liveness import Life, Liveness
from services.partitioner.routing.remote import RemoteTransport
from services.partitioner.settings import ProbeSettings, SenderSettings
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.breaker import Breaker
from tally.contract.errors import Unavailable
from tally.counting.v1.counting_pb2 import OUTCOME_JOURNALED, AppendRequest, AppendResponse
from tests.support.clock import Clock
from tests.support.eventually import eventually
from tests.unit.services.partitioner.routing.shards import entry

PARTITIONS = 8
NAME = "dns:///counting:1"
PROBE = ProbeSettings(interval_seconds=0.001, timeout_seconds=1, failures=2)
SOON = 1010.0


class Peer:
    """The other side of one shard."""

    def __init__(self) -> None:
        self.health: bool | Exception = True
        self.tell = self._tell_health
        self.connections = 0
        self.answers = asyncio.Event()
        self.calls = 0
        self.is_closed = False

    async def is_serving(self, _timeout_s: float) -> bool:
        return await self.tell()

    async def _tell_health(self) -> bool:
        if isinstance(self.health, Exception):
            raise self.health
        return self.health

    async def append(self, request: AppendRequest, _timeout_s: float) -> AppendResponse:
        self.calls += 1
        await self.answers.wait()
        return AppendResponse(outcomes=[OUTCOME_JOURNALED] * len(request.entries))

    async def close(self) -> None:
        self.is_closed = True


class Cluster:
    """Peers by their address, and the instances that a partitioner knows of them."""

    def __init__(self, background: Background, *names: str) -> None:
        self.peers: dict[str, Peer] = {}
        self.opened: dict[str, Instance] = {}
        self.resolved: list[str] = []
        self.background = background
        self.instances = Instances(
            Discovery(names, 0.001, self._resolve), self._connect, PARTITIONS, 1, background
        )

    async def _resolve(self, _host: str, _port: int) -> list[str]:
        return self.resolved

    def _connect(self, address: str) -> Instance:
        clock = Clock()
        peer = self.peers.setdefault(address, Peer())
        peer.connections += 1
        breaker = Breaker(
            address,
            failures=5,
            reset_after_s=1,
            is_failure=lambda error: isinstance(error, Unavailable),
            now=clock.monotonic,
        )
        transport = RemoteTransport(address, ClusterIdentity(), peer.append, breaker, SenderSettings(), clock)
        liveness = Liveness(clock, failures=PROBE.failures, timeout_s=PROBE.timeout_seconds)
        instance = Instance(address, transport, liveness, peer.is_serving, PROBE, clock, peer.close)
        self.opened[address] = instance
        return instance

    def send(self, address: str) -> "asyncio.Future[Outcome]":
        (outcome,) = self.instances.placement.transports[address].send([entry(0)], SOON)
        return outcome

    async def until_live(self, *addresses: str) -> None:
        async def is_live() -> bool:
            return all(self.opened[address].life is Life.LIVE for address in addresses)

        await eventually(is_live)

    async def until_placed(self, *addresses: str) -> None:
        async def is_placed() -> bool:
            return set(self.instances.placement.transports) == set(addresses)

        await eventually(is_placed)


@asynccontextmanager
async def cluster(*names: str) -> AsyncIterator[Cluster]:
    async with open_background() as background:
        made = Cluster(background, *names)
        made.instances.start()
        try:
            yield made
        finally:
            await made.instances.close()
            assert all(peer.is_closed for peer in made.peers.values())


def has_calls(peer: Peer, count: int) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return peer.calls >= count

    return is_so


async def test_shards_come_and_go_with_their_name_and_the_placement_follows() -> None:
    async with cluster(NAME) as some:
        assert some.instances.placement.transports == {}
        assert not some.instances.was_any_live
        versions = {some.instances.placement.version}
        for addresses in (["a:1"], ["a:1", "b:1"], ["b:1"]):
            some.resolved = addresses
            await some.until_placed(*addresses)
            led = [
                partition for address in addresses for partition in some.instances.placement.led_by(address)
            ]
            assert sorted(led) == list(range(PARTITIONS))
            versions.add(some.instances.placement.version)
        assert len(versions) == 4
        await eventually(lambda: is_closed(some.peers["a:1"]))
        assert some.background.is_alive


async def is_closed(peer: Peer) -> bool:
    return peer.is_closed


async def test_partitions_are_placed_over_the_live_shards_and_without_any_over_all() -> None:
    async with cluster("a:1", "b:1", "c:1") as some:
        await some.until_placed("a:1", "b:1", "c:1")
        some.peers["a:1"].health = False
        some.peers["b:1"].health = NoAnswer("refused")
        await some.until_placed("c:1")
        assert (some.instances.known_count, some.instances.live_count) == (3, 1)
        some.peers["c:1"].health = NoAnswer("silent")
        await some.until_placed("a:1", "b:1", "c:1")
        some.peers["b:1"].health = True
        await some.until_placed("b:1")


async def test_what_waits_for_a_silent_shard_may_go_elsewhere() -> None:
    async with cluster("a:1", "b:1") as some:
        await some.until_live("a:1", "b:1")
        under_way = some.send("a:1")
        await eventually(has_calls(some.peers["a:1"], 1))
        waiting = some.send("a:1")
        some.peers["a:1"].health = NoAnswer("silent")
        await some.until_placed("b:1")
        for outcome in (under_way, waiting):
            with pytest.raises(Unavailable):
                await outcome
        # Once it is back, nothing is in its way.
        some.peers["a:1"].health = True
        some.peers["a:1"].answers.set()
        await some.until_placed("a:1", "b:1")
        assert await some.send("a:1") == Outcome.JOURNALED


async def test_a_late_answer_to_a_probe_from_before_the_silence_brings_a_shard_back() -> None:
    async with cluster("a:1", "b:1") as some:
        await some.until_live("a:1", "b:1")
        peer, thaw, asked = some.peers["a:1"], asyncio.Event(), asyncio.Event()

        async def freeze() -> bool:
            if not asked.is_set():  # the first probe waits, and the others fail
                asked.set()
                await thaw.wait()
                return True
            if thaw.is_set():
                await asyncio.Event().wait()
            raise NoAnswer("silent")

        peer.tell = freeze
        await some.until_placed("b:1")
        thaw.set()
        await some.until_placed("a:1", "b:1")


async def test_a_shard_that_drains_still_answers_what_it_has() -> None:
    async with cluster("a:1", "b:1") as some:
        await some.until_live("a:1", "b:1")
        outcome = some.send("a:1")
        await eventually(has_calls(some.peers["a:1"], 1))
        some.peers["a:1"].health = False
        await some.until_placed("b:1")
        assert not outcome.done()
        some.peers["a:1"].answers.set()
        assert await outcome == Outcome.JOURNALED


async def test_the_last_shard_is_not_given_up_and_another_that_comes_takes_over() -> None:
    async with cluster("a:1", NAME) as some:
        await eventually(lambda: was_any_live(some))
        outcome = some.send("a:1")
        await eventually(has_calls(some.peers["a:1"], 1))
        silent = NoAnswer("silent")
        some.peers["a:1"].health = silent
        await eventually(lambda: is_none_live(some))
        assert not outcome.done()
        assert set(some.instances.placement.transports) == {"a:1"}
        some.resolved = ["b:1"]
        await some.until_placed("b:1")
        with pytest.raises(Unavailable):
            await outcome


async def was_any_live(some: Cluster) -> bool:
    return some.instances.was_any_live


async def is_none_live(some: Cluster) -> bool:
    return not some.instances.is_any_live()


async def test_a_shard_that_is_not_known_any_more_is_closed_when_it_has_answered() -> None:
    async with cluster("b:1", NAME) as some:
        some.resolved = ["a:1"]
        await some.until_placed("a:1", "b:1")
        outcome = some.send("a:1")
        await eventually(has_calls(some.peers["a:1"], 1))
        del some.resolved[:]  # a name without an address keeps what it had
        some.resolved = ["c:1"]
        await some.until_placed("b:1", "c:1")
        assert not some.peers["a:1"].is_closed
        some.peers["a:1"].answers.set()
        assert await outcome == Outcome.JOURNALED
        await eventually(lambda: is_closed(some.peers["a:1"]))
        assert some.background.is_alive


async def test_the_way_to_a_silent_shard_is_opened_anew_where_its_name_may_mean_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instances, "_RENEW_SECONDS", 0.01)
    async with cluster("well:1", "named:1", "10.0.0.1:1") as some:
        some.peers["named:1"].health = some.peers["10.0.0.1:1"].health = NoAnswer("silent")
        await some.until_placed("well:1")

        async def is_renewed() -> bool:
            return some.peers["named:1"].connections >= 3

        await eventually(is_renewed)
        some.peers["named:1"].health = True
        await some.until_placed("well:1", "named:1")
        assert [some.peers[address].connections for address in ("well:1", "10.0.0.1:1")] == [1, 1]
        assert some.background.is_alive


async def test_at_the_end_nobody_waits_for_ever() -> None:
    async with cluster("a:1") as some:
        await eventually(lambda: was_any_live(some))
        outcome = some.send("a:1")
        await eventually(has_calls(some.peers["a:1"], 1))
    with pytest.raises(Unavailable):
        await outcome


async def test_a_loop_that_dies_ends_the_process() -> None:
    async with cluster("a:1") as some:
        some.peers["a:1"].health = ValueError("broken")
        async with asyncio.timeout(20):
            with pytest.raises(LoopDied, match=r"^probes of a:1"):
                await some.background.watch()
