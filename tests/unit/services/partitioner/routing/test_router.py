"""Where entries go when shards take them, are away, or have enough."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from libs.domain.entry import Entry, Outcome
from libs.rpc.deadline import set_deadline
from libs.rpc.tracebacks import drop_tracebacks
from services.partitioner.routing.placement import Placement
from services.partitioner.routing.router import Router
from services.partitioner.settings import PartitionerSettings, RetrySettings
from tally.contract.errors import (
    Cancelled,
    ClusterMismatch,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PartitionCountMismatch,
    TallyError,
    Unavailable,
    Unimplemented,
    Violation,
)
from tests.support.clock import Clock
from tests.support.eventually import eventually
from tests.unit.services.partitioner.routing.shards import Shard, entry

PARTITIONS = 8
AWAY = Unavailable("away")
RETRY = RetrySettings(backoff_seconds=0.001, max_backoff_seconds=0.001)
SETTINGS = PartitionerSettings(retry=RETRY)


def router_of(*shards: Shard, clock: Clock | None = None) -> Router:
    placement = placed(shards)
    return Router(lambda: placement, PARTITIONS, SETTINGS, clock or Clock())


def placed(shards: Sequence[Shard]) -> Placement:
    transports: Any = {f"shard {number}": shard for number, shard in enumerate(shards)}
    return Placement.over(transports, PARTITIONS)


async def test_each_entry_goes_to_the_leader_of_its_partition_in_one_send() -> None:
    shards = [Shard(), Shard(), Shard()]
    router = router_of(*shards)
    entries = [entry(partition) for partition in range(PARTITIONS)]
    assert await router.append(entries) == [Outcome.JOURNALED] * PARTITIONS
    for number, shard in enumerate(shards):
        (sent,) = shard.sends
        assert [each.partition for each in sent] == router.placement.led_by(f"shard {number}")
    led = [
        partition for address in router.placement.transports for partition in router.placement.led_by(address)
    ]
    assert sorted(led) == list(range(PARTITIONS))


async def test_outcomes_are_in_the_order_of_the_entries() -> None:
    shards = [Shard(Outcome.JOURNALED), Shard(Outcome.DUPLICATE)]
    router = router_of(*shards)
    entries = [entry(partition) for partition in (5, 0, 7, 2, 1)]
    expected = [
        Outcome.JOURNALED if each.partition in router.placement.led_by("shard 0") else Outcome.DUPLICATE
        for each in entries
    ]
    assert len(set(expected)) == 2
    assert await router.append(entries) == expected


@pytest.mark.parametrize(
    "answer",
    [
        AWAY,
        DeadlineExceeded("late"),
        Outcome.UNAVAILABLE,
        InvalidRequest(
            [Violation("entries", "no")]
        ),  # after the door: the shard is to blame, or its call was
        PartitionCountMismatch("8 partitions"),
        TallyError("internal error"),
        Cancelled("by the shard"),
        Unimplemented("of another version"),
        ClusterMismatch("another cluster"),
    ],
    ids=str,
)
async def test_what_the_leader_cannot_take_goes_to_the_next(answer: Any) -> None:
    shards = [Shard(answer), Shard()]
    router = router_of(*shards)
    entries = [entry(partition) for partition in range(PARTITIONS)]
    assert await router.append(entries) == [Outcome.JOURNALED] * PARTITIONS
    # Nothing that the well shard has taken is sent again.
    assert sorted(each.partition for each in shards[1].entries) == list(range(PARTITIONS))
    assert sorted(each.partition for each in shards[0].entries) == router.placement.led_by("shard 0")


async def test_a_shard_that_comes_back_is_tried_again_in_the_next_round() -> None:
    shards = [Shard(AWAY, Outcome.JOURNALED), Shard(AWAY, AWAY, Outcome.JOURNALED)]
    assert await router_of(*shards).append([entry(0)]) == [Outcome.JOURNALED]
    assert len(shards[0].sends) + len(shards[1].sends) > 2


async def test_no_shard_is_asked_again_before_all_others_were() -> None:
    shards = [Shard(AWAY, AWAY, AWAY, Outcome.JOURNALED), *(Shard(AWAY) for _ in range(2))]
    assert await router_of(*shards).append([entry(0)]) == [Outcome.JOURNALED]
    asked = [len(shard.sends) for shard in shards]
    assert asked[0] == 4
    assert all(3 <= each <= 4 for each in asked[1:])


async def test_a_request_goes_on_by_the_placement_of_the_moment() -> None:
    current: list[Placement] = []

    class Goes(Shard):
        def send(self, *arguments: Any) -> Any:
            current[0] = placed([well])
            return super().send(*arguments)

    well = Shard()
    current.append(placed([Goes(AWAY)]))
    router = Router(lambda: current[0], PARTITIONS, SETTINGS, Clock())
    before = router.placement.version
    # The shard that failed goes by the name of the one that has come, and still is asked: it is another round.
    assert await router.append([entry(0)]) == [Outcome.JOURNALED]
    assert len(well.sends) == 1
    assert router.placement.version == before


async def test_without_a_shard_a_request_waits_for_one() -> None:
    current = [placed([])]
    router = Router(lambda: current[0], PARTITIONS, SETTINGS, Clock())
    waiting = asyncio.create_task(router.append([entry(0)]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert router.placement.transports == {}
    current[0] = placed([Shard()])
    assert await waiting == [Outcome.JOURNALED]


async def test_beyond_the_budget_a_retry_waits_and_does_not_fail() -> None:
    clock = Clock()
    shards = [Shard(*[AWAY] * 5, Outcome.JOURNALED)]
    placement = placed(shards)
    retry = RETRY.model_copy(update={"budget_burst": 2, "budget_per_second": 1.0})
    settings = SETTINGS.model_copy(update={"retry": retry})
    router = Router(lambda: placement, PARTITIONS, settings, clock)
    waiting = asyncio.create_task(router.append([entry(0)]))

    async def asked(times: int) -> bool:
        return len(shards[0].sends) == times

    await eventually(lambda: asked(3))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(shards[0].sends) == 3
    clock.seconds += 1
    await eventually(lambda: asked(4))
    clock.seconds += 2
    assert await waiting == [Outcome.JOURNALED]


async def test_what_another_shard_could_not_do_better_goes_back_to_the_caller() -> None:
    error = Overloaded("full", retry_after_s=1)
    shards = [Shard(error), Shard(error)]
    with pytest.raises(Overloaded) as caught:
        await router_of(*shards).append([entry(0)])
    assert caught.value is error
    assert sum(len(shard.sends) for shard in shards) == 1


async def test_what_waits_for_one_shard_is_not_sent_when_another_has_no_room() -> None:
    waiting: list[asyncio.Future[Any]] = []

    class Waits(Shard):
        def send(self, entries: Sequence[Entry], deadline: float) -> list[asyncio.Future[Outcome]]:  # noqa: ARG002 - Transport's
            futures = [asyncio.get_running_loop().create_future() for _ in entries]
            waiting.extend(futures)
            return futures

    class Full(Shard):
        def send(self, *_: Any) -> Any:
            raise Overloaded("full", retry_after_s=1)

    router = router_of(Waits(), Full())
    # The one that waits is asked first.
    entries = [entry(router.placement.led_by(f"shard {number}")[0]) for number in (0, 1)]
    with pytest.raises(Overloaded):
        await router.append(entries)
    assert [outcome.cancelled() for outcome in waiting] == [True]


async def test_errors_that_shards_answer_with_keep_nothing_of_the_request() -> None:
    """A large request goes to a shard in several calls, each of which fails with an error of its own."""

    class Fails(Shard):
        def send(self, entries: Sequence[Entry], deadline: float) -> list[asyncio.Future[Outcome]]:  # noqa: ARG002 - Transport's
            errors = [
                Overloaded("full", retry_after_s=1),
                Unavailable("away"),
                Overloaded("full", retry_after_s=1),
            ]
            futures: list[asyncio.Future[Outcome]] = []
            for _, error in zip(entries, errors, strict=True):
                futures.append(asyncio.get_running_loop().create_future())
                futures[-1].set_exception(error)
            return futures

    router, entries = router_of(Fails()), [entry(partition) for partition in range(3)]
    held = [weakref.ref(each.events.video_index) for each in entries]
    gc.collect()
    gc.disable()
    try:
        try:
            await router.append(entries)
        except Overloaded as error:
            drop_tracebacks(error)  # as whoever answers the call does
        del entries
        assert [each() for each in held] == [None] * 3
    finally:
        gc.enable()


async def test_after_the_deadline_no_shard_is_tried() -> None:
    clock = Clock()

    class Slow(Shard):
        def send(self, *arguments: Any) -> Any:
            clock.seconds += 40
            return super().send(*arguments)

    shards = [Slow(AWAY), Slow(AWAY)]
    with pytest.raises(DeadlineExceeded, match=r"\(away\); send the same request again$"):
        await router_of(*shards, clock=clock).append([entry(0)])
    assert sum(len(shard.sends) for shard in shards) == 2  # 60 s at most


async def test_a_caller_without_time_is_refused_before_anything_is_sent() -> None:
    set_deadline(0.001)
    try:
        shard = Shard()
        with pytest.raises(DeadlineExceeded):
            await router_of(shard).append([entry(0)])
        assert shard.sends == []
    finally:
        set_deadline(None)


async def test_the_version_changes_with_the_shards_and_with_nothing_else() -> None:
    one, same, other = router_of(Shard()), router_of(Shard(AWAY)), router_of(Shard(), Shard())
    assert one.placement.version == same.placement.version != other.placement.version
