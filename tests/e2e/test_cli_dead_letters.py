"""`tally dead-letters` against real services: what it prints, and its exit codes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from services.cli.terminal.failure import OK, REFUSED, UNKNOWN, USAGE
from tests.support.entries import new_id
from tests.support.eventually import eventually
from tests.support.letters import REASON, bury_spooled, old_id, waiting
from tests.support.stack import Stack, open_stack
from tests.support.terminal import Ended, run

COUNTS = {("MBdVXkSdhwU", "view"): 3, ("MBdVXkSdhwU", "like"): 1}
EVENTS = 4


@pytest.fixture
async def ids(stack: Stack) -> list[str]:
    """Three letters that can be replayed, oldest first."""
    connection = await asyncpg.connect(stack.dsn)
    try:
        for _ in range(3):
            await bury_spooled(connection, COUNTS, await old_id(connection))
        rows = await connection.fetch(
            "select request_id, partition from counting.dead_letter order by created_at"
        )
        return [f"{row['request_id']}/{row['partition']}" for row in rows]
    finally:
        await connection.close()


async def letters(stack: Stack, *arguments: str, stdin: str = "") -> Ended:
    return await run("dead-letters", *arguments, address=stack.address, stdin=stdin)


async def counted(stack: Stack) -> int:
    """The views; not of a total that was kept before."""
    return (await stack.client.get_count("MBdVXkSdhwU", strong=True)).count


async def assert_audited(stack: Stack) -> None:
    assert (await stack.client.audit()).discrepancy_events == 0


async def test_letters_are_listed_shown_replayed_and_dropped(stack: Stack, ids: list[str]) -> None:
    listed = await letters(stack, "list")
    assert (listed.exit_code, listed.err) == (OK, "")
    lines = [line.rstrip() for line in listed.out.splitlines()]
    assert lines[0] == "Dead letters"
    assert lines[1].split() == ["id", "events", "age", "video", "reason"]
    for line, letter_id in zip(lines[2:], ids, strict=True):
        assert line.split()[:2] == [letter_id, str(EVENTS)]
        assert line.endswith(f"MBdVXkSdhwU  {REASON}")

    shown = await letters(stack, "show", ids[0], "--events", "2")
    assert shown.exit_code == OK
    for sentence in (ids[0], REASON, "never in the journal", "These are the first 2 of 4: see --events."):
        assert sentence in shown.out

    assert await counted(stack) == 0
    replayed = await letters(stack, "replay", ids[0], "--yes")
    assert (replayed.exit_code, replayed.out, replayed.err) == (OK, "replayed 1 letter with 4 events\n", "")
    assert await counted(stack) == 3
    dropped = await letters(stack, "drop", ids[1], "-y")
    assert (dropped.exit_code, dropped.out) == (OK, "dropped 1 letter with 4 events\n")
    everything = await letters(stack, "list", "--state", "all")
    assert [line.split()[1] for line in everything.out.splitlines()[2:]] == ["replayed", "dropped", "waiting"]

    rest = await letters(stack, "replay", "--all", "--yes")
    assert (rest.exit_code, rest.out) == (OK, "replayed 1 letter with 4 events\n")
    assert await counted(stack) == 6
    assert (await letters(stack, "drop", "--all")).out == "no dead letters\n"
    await assert_audited(stack)


async def test_json_is_for_programs(stack: Stack, ids: list[str]) -> None:
    await stack.client.counting.drop_dead_letter(ids[0])
    found = json.loads((await letters(stack, "list", "--state", "all", "--limit", "2", "--json")).out)
    assert found["is_complete"] is False
    first, second = found["letters"]
    assert (first["id"], first["state"], first["event_count"]) == (ids[0], "dropped", EVENTS)
    assert (second["id"], second["decide_time"], second["log_id"]) == (ids[1], None, None)

    content = json.loads((await letters(stack, "show", ids[1], "--json")).out)
    assert content["letter"]["reason"] == REASON
    assert [event["event_type"] for event in content["events"]] == ["view", "view", "view", "like"]
    assert content["events"][0] == {
        "video_id": "MBdVXkSdhwU",
        "event_type": "view",
        "event_time": None,
        "value": None,
        "actor_id": "",
    }


async def test_nothing_is_decided_unless_somebody_says_so(stack: Stack, ids: list[str]) -> None:
    asked = await letters(stack, "drop", *ids, stdin="y\n")  # a pipe is nobody
    assert (asked.exit_code, asked.out) == (USAGE, "")
    assert asked.err == "tally: there is no terminal to confirm at: use --yes to drop without a question\n"
    assert len((await stack.client.counting.list_dead_letters(state="waiting")).letters) == 3


async def test_a_letter_that_is_refused_does_not_stop_the_others(stack: Stack, ids: list[str]) -> None:
    await stack.client.counting.drop_dead_letter(ids[0])
    await stack.client.counting.replay_dead_letter(ids[1])
    found = await letters(stack, "replay", *ids, ids[1], "--yes")
    assert found.exit_code == REFUSED
    assert found.out == "replayed 1 letter with 4 events; 1 had been replayed before; refused: 1\n"
    assert f"tally: {ids[0]} was dropped at 20" in found.err
    assert found.err.endswith("that is final\ntally: 1 letter could not be replayed\n")
    assert await counted(stack) == 6


async def test_wrong_usage_says_what_to_do(stack: Stack) -> None:
    nobody = f"{new_id()}/1"
    cases = (
        (("replay",), USAGE, "name the letters to replay by their ids, or all of them with --all"),
        (
            ("drop", nobody, "--all"),
            USAGE,
            "name the letters to drop by their ids, or all of them with --all",
        ),
        (("replay", nobody, "--yes"), REFUSED, f"there is no dead letter {nobody}"),
        (("show", "7"), REFUSED, "id: must be a request id, a slash and a partition, such as 0189"),
    )
    ends = await asyncio.gather(*(letters(stack, *arguments) for arguments, _, _ in cases))
    for wrong, (arguments, exit_code, sentence) in zip(ends, cases, strict=True):
        assert (wrong.exit_code, wrong.out) == (exit_code, ""), arguments
        assert sentence in wrong.err
        assert "Traceback" not in wrong.err


async def test_without_a_server_it_says_how_to_start_one() -> None:
    away = await run("dead-letters", "replay", "--all", "--yes", address="127.0.0.1:1")
    assert away.exit_code == UNKNOWN
    assert away.err.startswith(
        "tally: nothing answers at 127.0.0.1:1; start it with `make run` or `tally up`"
    )


@pytest.fixture
async def apart(dsn: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The address of each service, in a process of its own as far as its server is concerned."""
    async with open_stack(dsn, valkey_url, tmp_path / "c", names=("counting",)) as counting:
        partitioner = {"partitioner": {"shards": (counting.address,)}}
        async with (
            open_stack(
                dsn, valkey_url, tmp_path / "p", names=("partitioner",), overrides=partitioner
            ) as door,
            open_stack(dsn, valkey_url, tmp_path / "q", names=("query",)) as query,
        ):
            yield {"counting": counting.address, "partitioner": door.address, "query": query.address}


async def test_the_letters_are_found_through_a_shard_and_through_a_partitioner(
    dsn: str, apart: dict[str, str]
) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        [key] = await bury_spooled(connection, COUNTS, await old_id(connection))
        for name in ("counting", "partitioner"):

            async def lists_it(name: str = name) -> bool:
                return str(key) in (await run("dead-letters", "list", address=apart[name])).out

            await eventually(lists_it)
        lost = await run("dead-letters", "list", address=apart["query"])
        assert lost.exit_code == REFUSED
        assert "Name a shard, a partitioner or a balancer before partitioners with --address" in lost.err
        done = await run("dead-letters", "replay", str(key), "--yes", address=apart["partitioner"])
        assert done.exit_code == OK
        assert await waiting(connection) == []
    finally:
        await connection.close()
