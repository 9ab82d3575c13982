"""The commands but replay, against real services: what they print, and their exit codes."""

import asyncio
import json
from datetime import UTC, datetime

import asyncpg
import pytest

from services.cli.terminal.failure import OK, REFUSED, UNKNOWN, USAGE
from tally.client.request_id import RequestIds
from tally.client.scheduler import Job
from tests.support.eventually import eventually
from tests.support.stack import OpenService, Stack
from tests.support.terminal import run

NOBODY = "127.0.0.1:1"


async def test_what_is_counted_can_be_read(stack: Stack) -> None:
    counted = await run("count", "MBdVXkSdhwU", address=stack.address)
    assert (counted.exit_code, counted.out, counted.err) == (OK, "counted 1 view of MBdVXkSdhwU\n", "")
    many = await run("count", "MBdVXkSdhwU", "--times", "41", address=stack.address)
    assert many.out == "counted 41 view of MBdVXkSdhwU\n"
    await run("count", "MBdVXkSdhwU", "--type", "like", "--address", stack.address)

    views = await run("get", "MBdVXkSdhwU", "--strong", address=stack.address)
    assert (views.exit_code, views.err) == (OK, "")
    assert views.out.startswith("42 view of MBdVXkSdhwU, as of 20")
    likes = await run("get", "MBdVXkSdhwU", "--type", "like", "--strong", "--address", stack.address)
    assert likes.out.startswith("1 like of ")


async def test_the_id_of_a_video_may_begin_with_a_dash(stack: Stack) -> None:
    counted = await run("count", "--times", "2", "--", "-wXEuP0nM_A", address=stack.address)
    assert counted.out == "counted 2 view of -wXEuP0nM_A\n"
    found = await run("get", "--strong", "--", "-wXEuP0nM_A", address=stack.address)
    assert found.out.startswith("2 view of -wXEuP0nM_A")


async def test_a_command_that_is_run_again_under_its_request_id_counts_once(stack: Stack) -> None:
    for times in ("1", "3"):
        command = ("count", "video", "--times", times, "--request-id", RequestIds().make())
        assert (await run(*command, address=stack.address)).out == f"counted {times} view of video\n"
        again = await run(*command, address=stack.address)
        assert (again.exit_code, again.out) == (
            OK,
            f"counted 0 view of video; {times} had been counted before under this request id\n",
        )
    assert (await stack.client.get_count("video", strong=True)).count == 4


async def test_a_range_is_in_utc_and_json_is_for_programs(stack: Stack) -> None:
    for hour in (9, 10, 11):
        await stack.client.count("video", event_time=datetime(2017, 10, 9, hour, 30, tzinfo=UTC))
    found = await run(
        *("get", "video", "--from", "2017-10-09 10:00", "--to", "1507550400", "--strong", "--json"),
        address=stack.address,
    )
    answer = json.loads(found.out)
    assert datetime.fromisoformat(answer.pop("as_of")).tzinfo is not None
    assert answer == {
        "video_id": "video",
        "event_type": "view",
        "start_time": "2017-10-09T10:00:00+00:00",
        "end_time": "2017-10-09T12:00:00+00:00",
        "count": 2,
    }


async def test_what_the_service_refuses_is_told_in_its_words(stack: Stack) -> None:
    for arguments, sentence in {
        ("count", ""): "tally: video_id: must be 1 to 128 bytes of UTF-8 without control characters\n",
        ("count", "v", "--type", "A", "--times", "2"): "event_types[0]: must be 1 to 64 of the characters",
        ("count", "v", "--request-id", "1"): "tally: request_id: must be a UUID version 7",
        ("get", "v", "--type", "A"): "tally: event_type: must be 1 to 64 of the characters",
    }.items():
        refused = await run(*arguments, address=stack.address)
        assert (refused.exit_code, refused.out) == (REFUSED, "")
        assert sentence in refused.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Usage: tally"),
        (("count", "-wXEuP0nM_A"), "put it last, after a --: tally count -- -wXEuP0nM_A"),
        (("count", "-twXEuP0nM_A", "--times", "2"), "tally count -- -twXEuP0nM_A"),
        (("get", "--strong", "--EuP0nM_A"), "tally get -- --EuP0nM_A"),
        (("count", "-hXEuP0nM_A"), "tally count -- -hXEuP0nM_A"),
        (("count", "v", "--type"), "requires an argument"),
        (("cuont",), "No such command 'cuont'"),
        (("count",), "Missing argument 'VIDEO'"),
        (("count", "v", "--times", "0"), "--times"),
        (
            ("count", "v", "--address", "localhost"),
            "'localhost' should be host:port, for example 127.0.0.1:50051",
        ),
        (("count", "v", "--address", "http://localhost:50051"), "should be host:port"),
        (("count", "v", "--address", "127.0.0.1:70000"), "'127.0.0.1:70000' should be host:port"),
        (("cluster", "--address", "127.0.0.1:70000"), "'127.0.0.1:70000' should be host:port"),
        (
            ("get", "v", "--from", "2027-01-01", "--to", "2026-01-01"),
            "tally: --from must not be after --to: 2027-01-01 is after 2026-01-01",
        ),
        (
            ("get", "v", "--from", "yesterday"),
            "tally: --from: 'yesterday' is no time: write 2017-10-09T12:30:00Z",
        ),
        (("replay", "file", "--resume", "x"), "'x' is not the id of a replay"),
        (
            ("up", "counter"),
            "tally: no service is called counter. There are:\n  all ",
        ),
        (("migrate",), "tally: TALLY_POSTGRES__DSN is not set."),
    ],
)
async def test_wrong_usage_says_what_is_wrong(arguments: tuple[str, ...], sentence: str) -> None:
    wrong = await run(*arguments)
    assert wrong.exit_code == USAGE
    assert sentence in wrong.err + wrong.out
    assert "Traceback" not in wrong.err


async def test_a_setting_that_is_wrong_is_named_as_its_variable() -> None:
    for command in ("up", "migrate"):
        wrong = await run(command, TALLY_POSTGRES__POOL_SIZE="0")
        assert wrong.exit_code == USAGE
        assert wrong.err.startswith("tally: TALLY_POSTGRES__POOL_SIZE: Input should be greater than")


async def test_without_a_server_a_read_says_how_to_start_one() -> None:
    reads = [("get", "v"), ("status",), ("status", "--json")]
    for away in await asyncio.gather(*(run(*arguments, address=NOBODY) for arguments in reads)):
        assert (away.exit_code, away.out) == (UNKNOWN, "")
        advice = "start it with `make run` or `tally up`, or name the right --address."
        assert away.err == f"tally: nothing answers at {NOBODY}; {advice}\n"


async def test_without_a_server_a_count_says_how_to_repeat_it() -> None:
    away = await run("count", "v", address=NOBODY)
    assert (away.exit_code, away.out) == (UNKNOWN, "")
    assert away.err.startswith(f"tally: nothing answers at {NOBODY}; start it with `make run` or `tally up`")
    assert "To be sure that it counts once, run the same again with --request-id 0" in away.err


async def test_some_services_need_servers_of_the_users() -> None:
    alone = await run("up", "query")
    assert alone.exit_code == REFUSED
    assert "TALLY_POSTGRES__DSN and TALLY_VALKEY__URL must be set" in alone.err


@pytest.mark.parametrize(
    "command",
    ["", "up", "count", "get", "replay", "status", "migrate"]
    + [f"dead-letters {name}" for name in ("list", "show", "replay", "drop")]
    + ["videos import", "channels import", "quota put", "quota list"]
    + [
        f"jobs {name}"
        for name in (
            "put",
            "list",
            "show",
            "pause",
            "resume",
            "runs",
            "run",
            "cancel",
            "force",
            "workers",
            "bins",
        )
    ],
)
async def test_every_command_explains_itself_with_an_example(command: str) -> None:
    explained = await run(*command.split(), "--help")
    assert explained.exit_code == OK
    assert f"  tally {command}" in explained.out or f" tally {command}\n" in explained.out
    assert "\x1b" not in explained.out
    assert not set("│╭─") & set(explained.out)


async def test_the_version_is_that_of_the_package() -> None:
    assert (await run("--version")).out == "tally 0.1.0\n"


async def test_status_shows_services_shards_logs_and_discrepancy(stack: Stack) -> None:
    await stack.client.count("video")
    found = await run("status", address=stack.address)
    assert (found.exit_code, found.err) == (OK, "")
    lines = [line.split() for line in found.out.splitlines()]
    assert ["tally.ingest.v1.IngestService", "SERVING"] in lines
    assert ["tally.query.v1.QueryService", "SERVING"] in lines
    assert any(line[1:] == ["SERVING", "4", "0-3"] for line in lines)
    assert any("open" in line for line in lines)
    assert {"minute", "hour", "day", "total"} <= {line[0] for line in lines if line}
    assert lines[-1][-2:] == ["0", "0"]
    assert "\x1b" not in found.out
    assert not set("│╭─━") & set(found.out)


async def test_status_names_jobs_that_no_worker_can_do(stack: Stack) -> None:
    await stack.client.scheduler.put_job(
        Job(
            name="idle",
            rationale="a test",
            sla_hours=48,
            population="youtube_video",
            handler="metadata",
            cadence="daily",
        )
    )
    found = await run("status", address=stack.address)
    assert found.exit_code == REFUSED
    assert found.err == "tally: no worker has the handler metadata, which job idle needs\n"


async def test_status_fails_when_journal_and_rollups_differ(stack: Stack) -> None:
    await stack.client.count("video")

    async def is_flushed() -> bool:
        return (await stack.client.audit()).counted_events == 1

    await eventually(is_flushed)
    connection = await asyncpg.connect(stack.dsn)
    try:
        await connection.execute(
            "insert into counting.rollup_row (generation, video_id, event_type, minute, count) "
            "values (1, 'odd', 'view', 0, 2)"
        )
    finally:
        await connection.close()
    found = await run("status", "--json", address=stack.address)
    assert found.exit_code == REFUSED
    assert found.err == "tally: the discrepancy is 2 events and must be 0\n"
    answer = json.loads(found.out)
    assert answer["audit"] == {
        "journaled_events": 1,
        "counted_events": 3,
        "dead_events": 0,
        "discrepancy_events": 2,
        "replayed_events": 0,
    }
    assert answer["problems"] == ["the discrepancy is 2 events and must be 0"]
    assert answer["shards"][0]["partitions"] == [0, 1, 2, 3]
    assert answer["logs"][0]["state"] == "open"


async def test_status_names_what_is_not_serving(open_service: OpenService) -> None:
    async with open_service("query") as stack:
        found = await run("status", "--json", address=stack.address)
    assert found.exit_code == REFUSED
    assert "tally.ingest.v1.IngestService is SERVICE_UNKNOWN; " in found.err
    assert "; the partition map cannot be read" in found.err
    assert json.loads(found.out)["services"]["tally.query.v1.QueryService"] == "SERVING"
