"""Members: their bins, how they are put, and how a slot reads them."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.domain.bins import DEFAULT_SPACE
from services.scheduler.cut import cut_query
from services.scheduler.lanes import SCHEDULED
from services.scheduler.members import FIRST, LAST, PLANNER_SETTINGS, Key, Range
from services.scheduler.membership import CHANNELS, VIDEOS, Put, put_members
from services.scheduler.populations import POPULATIONS
from tests.integration.services.scheduler.scheduling import DAY, JOB, MONDAY, Scene
from tests.support.servers import Servers, fresh_database

MANY = 60_000
SPACE = 2_520
"""A twentieth of the default: a value has as many members as if there were a million."""
FEW_PAGES = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(servers: Servers, template: str) -> AsyncIterator[Any]:
    """A connection to many videos, half of them out of network."""
    async with fresh_database(servers.postgres_dsn, template) as dsn:
        connection = await asyncpg.connect(dsn, server_settings=PLANNER_SETTINGS)
        await connection.execute(
            "insert into scheduler.youtube_video (youtube_id, sync_bin, member_since, is_oon) "
            f"select 'v' || n, floor(random() * {SPACE}), '2026-01-01', n % 2 = 0 from generate_series(1, {MANY}) as n"
        )
        await connection.execute("vacuum analyze scheduler.youtube_video")
        try:
            yield connection
        finally:
            await connection.close()


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes_of(child))]


async def explain(connection: Any, statement: str, *arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan that was executed."""
    rows = await connection.fetchval(
        f"explain (analyze, buffers, timing off, format json) {statement}", *arguments
    )
    return nodes_of(json.loads(rows)[0]["Plan"])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("where", [{}, {"is_oon": True}], ids=["all", "oon"])
@pytest.mark.parametrize("bin_max", [1, 2, 7, 14, 28, 100])
async def test_a_slot_is_read_along_the_index_in_few_pages(
    crowd: Any, bin_max: int, where: dict[str, bool], mode: str
) -> None:
    """T000-01"""
    bins = sorted({0, 4 % bin_max})
    condition = POPULATIONS["youtube_video"].condition(where)
    keys = [
        Key(row["sync_bin"], row["youtube_id"])
        for row in await crowd.fetch(
            f"select sync_bin, youtube_id from scheduler.youtube_video where {condition} "
            "and sync_bin % $1 = any($2) order by sync_bin, youtube_id",
            bin_max,
            bins,
        )
    ]
    cuts = [FIRST, *keys[99:-1:100], LAST]
    await crowd.execute(f"set plan_cache_mode = {mode}")
    for number in {0, len(cuts) // 2 - 1, len(cuts) - 2}:
        members = Range(
            POPULATIONS["youtube_video"], where, bins, bin_max, SPACE, cuts[number], cuts[number + 1]
        )
        for columns, kinds in (([], {"Index Only Scan"}), (["etag"], {"Index Scan"})):
            statement, arguments = members.query(columns, 101)
            nodes = await explain(crowd, statement, *arguments)
            assert {node["Node Type"] for node in nodes} == {"Limit", *kinds}
            assert all(node.get("Rows Removed by Filter", 0) == 0 for node in nodes)
            assert nodes[0]["Actual Rows"] == len(keys[100 * number : 100 * number + 100])
            pages = nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"]
            # Rows with columns lie at random, each on a page of its own.
            assert pages <= FEW_PAGES + 100 * len(columns)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_query_of_the_source_reads_every_row(crowd: Any) -> None:
    """T000-01, the contrast"""
    nodes = await explain(
        crowd, "select youtube_id from scheduler.youtube_video where mod(sync_bin, 7) in (0, 4)"
    )
    assert any(node.get("Rows Removed by Filter", 0) > MANY / 2 for node in nodes)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_slots_of_a_cut_hold_each_member_of_the_bins_once(crowd: Any) -> None:
    """T000-19, T000-28"""
    definition = JOB.model_copy(update={"slot_size": 100})
    bins = [0, 4], 7
    statement, selected = cut_query(definition, bins, SPACE)
    transaction = crowd.transaction()
    await transaction.start()
    try:
        await crowd.execute("set local session_replication_role = replica")  # there is no run to refer to
        arguments = (1, 1, MONDAY, JOB.length, 100, SCHEDULED, *selected)
        row = await crowd.fetchrow(statement, *arguments)
        expected = await crowd.fetchval(
            "select count(*) from scheduler.youtube_video where sync_bin % 7 in (0, 4)"
        )
        assert (row["members"], row["slots"]) == (expected, -(-expected // 100))
        slots = await crowd.fetch("select * from scheduler.sync_slot order by number")
        for slot in (slots[0], slots[len(slots) // 2], slots[-1]):
            ends = Key(slot["lower_bin"], slot["lower_id"]), Key(slot["upper_bin"], slot["upper_id"])
            members = Range(POPULATIONS["youtube_video"], {}, *bins, SPACE, *ends)
            read, parameters = members.query([], 200)
            assert len(await crowd.fetch(read, *parameters)) == slot["members"]
    finally:
        await transaction.rollback()


def chi_square(counts: list[int]) -> float:
    mean = sum(counts) / len(counts)
    return sum((count - mean) ** 2 for count in counts) / mean


async def test_bins_are_uniform_however_rows_arrive(scene: Scene) -> None:
    """T000-03, 000-17: put, inserted without a bin, copied; in 48 classes of the space"""
    await scene.put_videos(5_000, "put")
    await scene.pool.execute(
        "insert into scheduler.youtube_video (youtube_id, member_since) "
        "select 'sql' || n, '2026-01-01' from generate_series(1, 20000) as n"
    )
    async with scene.pool.acquire() as connection:
        await connection.copy_records_to_table(
            "youtube_video",
            schema_name="scheduler",
            records=[(f"copy{number}", MONDAY) for number in range(5_000)],
            columns=["youtube_id", "member_since"],
        )
    rows = await scene.pool.fetch("select youtube_id, sync_bin from scheduler.youtube_video")
    assert all(0 <= row["sync_bin"] < DEFAULT_SPACE for row in rows)
    for prefix in ("put", "sql", "copy"):
        bins = [row["sync_bin"] for row in rows if row["youtube_id"].startswith(prefix)]
        by_range = Counter(value * 48 // DEFAULT_SPACE for value in bins)
        by_residue = Counter(value % 48 for value in bins)
        for counts in (by_range, by_residue):
            # 47 degrees of freedom: exceeded once in a million.
            assert chi_square([counts[number] for number in range(48)]) < 111


async def test_putting_again_changes_no_bin_and_writes_no_row_that_does_not_differ(scene: Scene) -> None:
    """000-73"""
    rows = [(f"v{number}", "channel", "title", True, None) for number in range(100)]
    assert await put_members(scene.pool, VIDEOS, rows, MONDAY) == Put(100, 0, 0)
    read = "select youtube_id, sync_bin, member_since, is_oon, title, ctid::text from scheduler.youtube_video"
    before = await scene.pool.fetch(f"{read} order by youtube_id")
    assert await put_members(scene.pool, VIDEOS, rows, MONDAY + DAY) == Put(0, 0, 100)
    left_out = [(f"v{number}", None, None, None, None) for number in range(100)]
    assert await put_members(scene.pool, VIDEOS, left_out, MONDAY + DAY) == Put(0, 0, 100)
    assert await scene.pool.fetch(f"{read} order by youtube_id") == before
    changed = [
        ("v1", None, "other", None, None),
        ("v2", None, None, False, None),
        ("new", None, None, None, None),
    ]
    assert await put_members(scene.pool, VIDEOS, changed, MONDAY + DAY) == Put(1, 2, 0)
    after = {row["youtube_id"]: row for row in await scene.pool.fetch(read)}
    old = {row["youtube_id"]: row for row in before}
    assert all(after[row]["sync_bin"] == old[row]["sync_bin"] for row in old)
    assert (after["v1"]["title"], after["v1"]["is_oon"], after["v1"]["member_since"]) == (
        "other",
        True,
        MONDAY,
    )
    # A change of what jobs select by makes it a member anew.
    assert (after["v2"]["title"], after["v2"]["is_oon"], after["v2"]["member_since"]) == (
        "title",
        False,
        MONDAY + DAY,
    )
    assert after["new"]["is_oon"] is False


async def test_of_two_rows_with_one_id_the_later_one_is_put(scene: Scene) -> None:
    rows = [("c", "first", None, None), ("c", "second", True, None)]
    assert await put_members(scene.pool, CHANNELS, rows, MONDAY) == Put(1, 0, 0)
    assert await scene.pool.fetchval("select title from scheduler.youtube_channel") == "second"


async def test_batches_with_the_same_ids_at_once_are_all_put(pair: Scene) -> None:
    """R000-06"""
    batches = [
        [(f"v{number}", None, f"title {batch}", None, None) for number in order]
        for batch, order in enumerate([range(500), range(499, -1, -1), range(250, 750), range(500)])
    ]
    put = await asyncio.gather(*(put_members(pair.pool, VIDEOS, batch, MONDAY) for batch in batches))
    assert sum(each.inserted for each in put) == 750
    assert await pair.pool.fetchval("select count(*) from scheduler.youtube_video") == 750
