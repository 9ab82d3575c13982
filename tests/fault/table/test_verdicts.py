"""The verdicts on runs and backfills find what is wrong: a violation is made up where everything was right."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio

from libs.atproto.syntax import make_tid
from libs.dataset.parts import open_duckdb, write_part
from libs.dataset.rows import Row, bucket_of
from loadtests.simulators.network import make_network
from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import Simulator
from loadtests.youtube.videos import Catalog
from tests.fault.table.repos import BackfillRun
from tests.fault.table.sync import MEMBERS, NEEDED_UNITS, SyncRun, make_video

REV = make_tid(1_750_000_000_000_000)
RUN = """
insert into scheduler.youtube_video (youtube_id, member_since, title, view_count)
select id, now(), 'title of ' || id, 0 from unnest($1::text[]) as member (id)"""
ROWS = f"""
insert into scheduler.sync_job (name, population, definition, quotas, next_logical_at, next_plan_at, created_at,
    changed_at) values ('round', 'youtube_video', '{{}}', '{{}}', now(), now(), now(), now());
insert into scheduler.sync_run (job_id, logical_at, repeat, state, definition, handler, bin_numbers, bin_max, run_day,
    opens_at, closes_at, planned_at)
select job_id, now(), 1, 'done', '{{}}', 'metadata', '{{0}}', 1, '2026-03-02', now(), now(), now()
from scheduler.sync_job;
insert into scheduler.sync_slot (run_id, number, job_id, state, due_at, planned_at, members, lower_bin, lower_id,
    upper_bin, upper_id, next_bin, next_id)
select run_id, 0, job_id, 'done', now(), now(), 1, -1, '', 1, '', 1, '' from scheduler.sync_run;
create table scheduler.attempts_of_a_day partition of scheduler.sync_attempt
    for values from ('2026-03-02') to ('2026-03-03');
insert into scheduler.sync_attempt (run_id, item_id, try, run_day, job_id, outcome, attempted_at)
select run_id, youtube_id, 0, run_day, job_id, 1, now() from scheduler.sync_run cross join scheduler.youtube_video;
insert into scheduler.quota (name, kind, limit_units, zone, protected_percent, protected_units, send_within_seconds,
    created_at, changed_at) values ('round', 'units_per_day', {NEEDED_UNITS + 2}, 'UTC', 1, 1, 10, now(), now());
insert into scheduler.quota_use (quota, day, used) values ('round', '2026-03-02', {NEEDED_UNITS + 1});
"""


@pytest_asyncio.fixture
async def run(dsn: str) -> AsyncIterator[tuple[SyncRun, Any]]:
    """A run that is right, and a connection to its database."""
    api = Simulator(Catalog(map(make_video, MEMBERS)), Meter())
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(RUN, MEMBERS)
        await connection.execute(ROWS)
        run = SyncRun("round", dsn, cast("Any", None), api, random.Random(1), allowed_repeats=1)
        run.run_id = await connection.fetchval("select run_id from scheduler.sync_run")
        api.calls = NEEDED_UNITS
        yield run, connection
    finally:
        await connection.close()


async def test_a_run_that_is_right_has_no_sentence(run: tuple[SyncRun, Any]) -> None:
    assert await run[0].check() == []
    assert await run[0].until_done(5.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("delete from scheduler.sync_attempt where item_id = 'sync-0007'", "sync-0007 has 0 outcomes"),
        (
            (
                "insert into scheduler.sync_attempt select run_id, item_id, 1, run_day, job_id, outcome, attempted_at "
                "from scheduler.sync_attempt where item_id = 'sync-0007'"
            ),
            "sync-0007 has 2 outcomes",
        ),
        (
            "update scheduler.sync_attempt set item_id = 'stranger' where item_id = 'sync-0007'",
            "stranger has 1 outcomes",
        ),
        (
            "update scheduler.sync_attempt set outcome = 5 where item_id = 'sync-0007'",
            "sync-0007 has outcome 5",
        ),
        ("update scheduler.sync_slot set state = 'queued'", "1 slots of run"),
        (
            "update scheduler.youtube_video set view_count = 7 where youtube_id = 'sync-0007'",
            "sync-0007 is stored",
        ),
        ("delete from scheduler.youtube_video where youtube_id = 'sync-0007'", "sync-0007 is stored as None"),
        ("update scheduler.quota_use set used = used + 1", "units were paid of"),
        ("update scheduler.quota_use set forced = 1", "1 by forced work"),
        (f"update scheduler.quota_use set used = {NEEDED_UNITS - 1}", "calls, and 39 units were paid"),
    ],
)
async def test_what_is_wrong_with_a_run_is_found(
    run: tuple[SyncRun, Any], change: str, sentence: str
) -> None:
    await run[1].execute(change)
    assert any(sentence in wrong for wrong in await run[0].check())


async def test_calls_that_were_repeated_too_often_are_found(run: tuple[SyncRun, Any]) -> None:
    run[0].api.calls += 1
    assert await run[0].check() == []
    run[0].api.calls += 1
    assert any("may be repeated" in wrong for wrong in await run[0].check())


@pytest_asyncio.fixture
async def backfill(dsn: str, tmp_path: Path) -> AsyncIterator[tuple[BackfillRun, Any]]:
    """A backfill whose dataset and counts are right, and a connection to its database."""
    own = make_network(2, seed=5)
    objects = tmp_path / "objects"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("insert into backfill.delivery (delivery_id) values ('first'), ('second')")
        for number, did in enumerate(own.dids):
            await store(connection, objects, own.world.records[did], did, ("first", "second")[number])
        for (video, kind), count in own.truth.items():
            await connection.execute(
                "insert into counting.rollup_row (generation, video_id, event_type, minute, count) "
                "values (1, $1, $2, 1, $3)",
                *(video, kind, count),
            )
        yield BackfillRun("round", dsn, cast("Any", None), make_network(0), own, objects), connection
    finally:
        await connection.close()


async def store(
    connection: Any, objects: Path, records: dict[str, Any], did: str, delivery: str, name: str = "part"
) -> None:
    """A part with the records of an account, and the account's row."""
    rows = [
        Row(
            bucket=bucket_of(did),
            did=did,
            collection=key.split("/")[0],
            rkey=key.split("/")[1],
            uri=f"at://{did}/{key}",
            cid="cid",
            rev=REV,
            created_at=None,
            time_us=10**15,
            time_source="rev",
            subject=None,
            has_video=False,
            text=None,
            languages=None,
            record="{}",
            cbor=None,
        )
        for key in records
    ]
    objects.mkdir(exist_ok=True)
    with open_duckdb() as duckdb:
        part = write_part(duckdb, rows, objects)
    final = part.path.rename(objects / f"{name}-{delivery}.parquet")
    await connection.execute(
        "insert into backfill.part (delivery_id, name, collection, row_count, byte_count) values ($1, $2, $3, 1, 1)",
        *(delivery, final.name, name),
    )
    await connection.execute(
        "insert into backfill.repo (did, bucket, state, delivery_id, rev, record_count) "
        "values ($1, $2, 'stored', $3, $4, $5) on conflict do nothing",
        *(did, bucket_of(did), delivery, REV, len(records)),
    )


async def find(run: BackfillRun, connection: Any) -> list[str]:
    return await run.check_rows(connection) + await run.check_counts(connection)


async def test_a_backfill_that_is_right_has_no_sentence(backfill: tuple[BackfillRun, Any]) -> None:
    assert await find(*backfill) == []


async def test_a_record_that_is_missing_or_there_twice_is_found(backfill: tuple[BackfillRun, Any]) -> None:
    run, connection = backfill
    did = run.own.dids[0]
    key, value = run.own.world.records[did].popitem()
    wrong = await find(run, connection)
    assert any(f"{did}: 0 records are missing, 1 are there too often" in each for each in wrong)
    assert any("records are noted of" in each for each in wrong)
    run.own.world.records[did] |= {key: value, "com.example.new/1": {}}
    assert any("1 records are missing, 0 are there too often" in each for each in await find(run, connection))
    del run.own.world.records[did]["com.example.new/1"]
    await store(connection, run.objects, {key: value}, did, "first", "again")
    assert any("0 records are missing, 1 are there too often" in each for each in await find(run, connection))


async def test_rows_of_a_delivery_that_an_account_does_not_name_do_not_count(
    backfill: tuple[BackfillRun, Any],
) -> None:
    run, connection = backfill
    did = run.own.dids[0]
    await store(connection, run.objects, run.own.world.records[did], did, "second", "late")
    assert await find(run, connection) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("update backfill.repo set state = 'failed' where did = $1", "is failed, and its host serves it"),
        ("delete from backfill.repo where did = $1", "is unknown, and its host serves it"),
        (
            "update counting.rollup_row set count = count + 1 where event_type = 'like' and $1 <> ''",
            "counted",
        ),
        ("delete from counting.rollup_row where event_type = 'post' and $1 <> ''", "counted 0"),
    ],
)
async def test_what_is_wrong_with_a_backfill_is_found(
    backfill: tuple[BackfillRun, Any], change: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fault.table.repos._COUNTED_SECONDS", 0.1)
    run, connection = backfill
    await connection.execute(change, run.own.dids[0])
    assert any(sentence in wrong for wrong in await find(run, connection))
