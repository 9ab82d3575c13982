"""Counting with the ledger: whatever ends it anywhere, every event counts once, and a second run counts nothing."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from libs.stores.objects import Objects, folder_url
from services.backfill.shipping import Receipt
from tests.integration.services.backfill.counted import (
    Dataset,
    Fuse,
    Killed,
    Tally,
    count,
    make_counting,
    make_events,
)

BUCKET = 5
MOST_STEPS = 200


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(folder_url(tmp_path))


@pytest.mark.exact
async def test_a_kill_between_any_two_steps_changes_nothing(pool: Any, objects: Objects) -> None:
    """T002-41: the n-th life is killed at its n-th step, in the middle of what the lives before it have left."""
    tally, dataset = Tally(), Dataset()
    ends = 0
    for step in range(MOST_STEPS):
        if ends == step:  # the last one came to its end: there is more to count
            dataset.events[BUCKET] = dataset.events.get(BUCKET, []) + make_events(12, seed=step)
        counting = make_counting(pool, objects, tally, dataset, Fuse(step % 45))
        try:
            await count(counting, dataset, [BUCKET])
        except Killed:
            continue
        ends = step + 1
        assert tally.counts == dataset.truth
    report = await count(make_counting(pool, objects, tally, dataset, Fuse()), dataset, [BUCKET])
    assert ends > MOST_STEPS // 45
    assert tally.counts == dataset.truth
    assert report.total == dataset.truth.total()


@pytest.mark.exact
@pytest.mark.parametrize("step", range(40))
async def test_what_one_killed_life_left_is_finished_by_the_next(
    pool: Any, objects: Objects, step: int
) -> None:
    tally, dataset = Tally(), Dataset({BUCKET: make_events(30)})
    with suppress(Killed):
        await count(make_counting(pool, objects, tally, dataset, Fuse(step)), dataset, [BUCKET])
    dataset.events[BUCKET] += make_events(5, seed=1)
    await count(make_counting(pool, objects, tally, dataset, Fuse()), dataset, [BUCKET])
    assert tally.counts == dataset.truth


@pytest.mark.exact
async def test_a_second_run_sends_nothing(pool: Any, objects: Objects) -> None:
    tally, dataset = Tally(), Dataset({bucket: make_events(20, bucket) for bucket in (0, 7, 63)})
    first = await count(make_counting(pool, objects, tally, dataset, Fuse()), dataset)
    sent = tally.sent
    second = await count(make_counting(pool, objects, tally, dataset, Fuse()), dataset)
    assert (first.counted, first.total, second.counted, second.total) == (60, 60, 0, 60)
    assert (tally.sent, tally.counts) == (sent, dataset.truth)


@pytest.mark.exact
async def test_a_lost_answer_is_sent_again_as_the_same_bytes(pool: Any, objects: Objects) -> None:
    """T002-51"""
    tally, dataset = Tally(answers=[Receipt.UNANSWERED] * 3), Dataset({BUCKET: make_events(30)})
    counting = make_counting(pool, objects, tally, dataset, Fuse())
    first = await count(counting, dataset, [BUCKET])
    assert (first.pending > 0, first.total) == (True, 0)
    tally.answers = []
    second = await count(counting, dataset, [BUCKET])
    assert (second.pending, second.total) == (0, 30)
    assert tally.counts == dataset.truth


@pytest.mark.exact
async def test_an_entry_in_a_spool_is_no_receipt(pool: Any, objects: Objects) -> None:
    """T002-41"""
    tally, dataset = Tally(answers=[Receipt.SPOOLED] * 4), Dataset({BUCKET: make_events(30)})
    counting = make_counting(pool, objects, tally, dataset, Fuse())
    first = await count(counting, dataset, [BUCKET])
    assert first.pending == 30
    assert await pool.fetchval("select count(*) from backfill.shipment where done_at is not null") == 0
    tally.answers = []
    second = await count(counting, dataset, [BUCKET])
    assert (second.counted, second.total) == (30, 30)
    assert set(await _receipts(pool)) == {"duplicate"}
    assert tally.counts == dataset.truth


async def test_a_request_that_is_too_old_is_not_given_another_id(pool: Any, objects: Objects) -> None:
    """T002-47: until somebody cancels it in writing, nobody knows what becomes of it."""
    tally, dataset = Tally(answers=[Receipt.UNANSWERED] * 4), Dataset({BUCKET: make_events(30)})
    counting = make_counting(pool, objects, tally, dataset, Fuse())
    await count(counting, dataset, [BUCKET])
    tally.answers = [Receipt.TOO_OLD] * 4
    report = await count(counting, dataset, [BUCKET])
    assert (report.unknown, report.counted, report.total) == (30, 0, 0)
    assert len(tally.known) == await pool.fetchval("select count(*) from backfill.shipment")
    assert tally.counts == dataset.truth


@pytest.mark.exact
@pytest.mark.parametrize("seed", range(5))
async def test_two_that_count_at_once_count_once(pool: Any, objects: Objects, seed: int) -> None:
    tally, dataset = Tally(), Dataset({bucket: make_events(25, seed + bucket) for bucket in range(4)})
    countings = [make_counting(pool, objects, tally, dataset, Fuse()) for _ in range(3)]
    await asyncio.gather(*(count(each, dataset, range(4)) for each in countings))
    assert tally.counts == dataset.truth
    last = await count(countings[0], dataset, range(4))
    assert (last.counted, last.total) == (0, 100)


async def test_a_plan_keeps_its_bytes_whatever_the_dataset_becomes(pool: Any, objects: Objects) -> None:
    """T002-49, T002-51: a record that changes under its key is counted as it was planned, and not a second time."""
    tally, dataset = Tally(answers=[Receipt.UNANSWERED] * 4), Dataset({BUCKET: make_events(30)})
    truth = dataset.truth
    counting = make_counting(pool, objects, tally, dataset, Fuse())
    await count(counting, dataset, [BUCKET])
    tally.answers = []
    dataset.events[BUCKET] = [each._replace(video="at://another", time_us=1) for each in make_events(30)]
    report = await count(counting, dataset, [BUCKET])
    assert report.total == 30
    assert tally.counts == truth


async def _receipts(pool: Any) -> list[str]:
    return [row["receipt"] for row in await pool.fetch("select receipt from backfill.shipment")]
