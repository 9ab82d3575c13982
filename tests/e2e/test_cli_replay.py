"""`tally replay` against real services: every line counted once, whatever happens to the replay."""

import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from services.cli.terminal.failure import INTERRUPTED, OK, REFUSED, UNKNOWN
from tests.support.eventually import eventually
from tests.support.stack import OpenService, Stack
from tests.support.terminal import finish, kill, run, start

HEADING = "video_id,event_type,event_time,value\n"
LINES = 12_000
"""Two pieces of 5,000, and the rest."""


def rows(count: int = LINES, first: int = 0) -> str:
    return "".join(f"v{n % 7},view,{1507550400 + n},{n}\n" for n in range(first, first + count))


async def counts(stack: Stack) -> Counter[str]:
    found = Counter[str]()
    for n in range(7):
        found[f"v{n}"] = (await stack.client.get_count(f"v{n}", strong=True)).count
    return found


EXPECTED = Counter(f"v{n % 7}" for n in range(LINES))


def resume_id(err: str) -> str:
    found = re.search(r"--resume (\S{36})", err)
    assert found
    return found[1]


async def test_a_csv_file_is_counted_and_can_be_replayed_again_without_counting_twice(
    stack: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "events.csv"
    file.write_text(HEADING + rows())
    first = await run("replay", file, address=stack.address)
    assert (first.exit_code, first.out) == (OK, "counted 12000, duplicate 0, refused 0, bad lines 0\n")
    assert await counts(stack) == EXPECTED
    stats = await stack.client.get_stats("v0", "view", "max", strong=True)
    assert stats.value == 11_998.0

    again = await run("replay", file, "--resume", resume_id(first.err), address=stack.address)
    assert (again.exit_code, again.out) == (OK, "counted 0, duplicate 12000, refused 0, bad lines 0\n")
    assert await counts(stack) == EXPECTED


async def test_json_lines_are_read_from_standard_input(stack: Stack) -> None:
    lines = (
        '{"video_id": "a"}\n{"video_id": "b", "event_type": "like", "event_time": "2017-10-09T12:00:00Z"}\n'
    )
    done = await run("replay", "-", address=stack.address, stdin=lines)
    assert (done.exit_code, done.out) == (OK, "counted 2, duplicate 0, refused 0, bad lines 0\n")
    assert "\x1b" not in done.err
    assert (await stack.client.get_count("a", strong=True)).count == 1
    assert (await stack.client.get_count("b", "like", strong=True)).count == 1


@pytest.mark.exact
async def test_a_replay_that_was_killed_is_resumed_and_counts_every_line_once(
    stack: Stack, tmp_path: Path
) -> None:
    process = await start("replay", "-", address=stack.address)
    assert process.stdin
    assert process.stderr
    process.stdin.write((HEADING + rows(10_500)).encode())
    err = (await process.stderr.readline()).decode()

    async def is_counted_in_part() -> bool:
        return (await stack.client.get_count("v0", strong=True)).count > 0

    await eventually(is_counted_in_part)
    await kill(process)
    before = await counts(stack)
    assert 0 < before.total() <= 10_000

    file = tmp_path / "events.csv"
    file.write_text(HEADING + rows())
    done = await run("replay", file, "--resume", resume_id(err), address=stack.address)
    assert done.exit_code == OK, done.err
    counted, duplicate = (int(n) for n in re.findall(r"\d+", done.out)[:2])
    assert (counted + duplicate, duplicate) == (LINES, before.total())
    assert await counts(stack) == EXPECTED


async def test_an_interrupted_replay_says_how_far_it_came(stack: Stack) -> None:
    process = await start("replay", "-", address=stack.address)
    assert process.stdin
    assert process.stderr
    err = (await process.stderr.readline()).decode()
    process.stdin.write((HEADING + rows(5_001)).encode())

    async def is_counted() -> bool:
        return (await counts(stack)).total() == 5_000

    await eventually(is_counted)
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert ended.exit_code == INTERRUPTED
    assert f"run the same again with --resume {resume_id(err)}" in ended.err
    assert ended.out.startswith("counted ")
    assert "Traceback" not in ended.err


async def test_a_bad_line_stops_before_anything_of_its_piece_is_sent(stack: Stack) -> None:
    lines = HEADING + rows(5_000) + rows(2, 5_000) + "v1,view,never,\n" + rows(3, 5_003) + "v1,VIEW,,\n"
    stopped = await run("replay", "-", address=stack.address, stdin=lines)
    assert (stopped.exit_code, stopped.out) == (
        REFUSED,
        "counted 5000, duplicate 0, refused 0, bad lines 2\n",
    )
    assert "tally: line 5004: 'never' is no time" in stopped.err
    assert "tally: line 5008: event_type must be 1 to 64 of the characters" in stopped.err
    assert "tally: stopped: nothing of lines 5002 to 5008 was sent." in stopped.err
    assert (await counts(stack)).total() == 5_000

    mended = lines.replace("never", "1507555402").replace("VIEW", "view")
    done = await run("replay", "-", "--resume", resume_id(stopped.err), address=stack.address, stdin=mended)
    assert (done.exit_code, done.out) == (OK, "counted 7, duplicate 5000, refused 0, bad lines 0\n")


async def test_bad_lines_are_left_out_on_request(stack: Stack) -> None:
    lines = HEADING + rows(3) + "v1,view,never,\n\udcff,view,,\n" + rows(2, 3)
    done = await run("replay", "-", "--skip-bad", "--max-bad", "28.6", address=stack.address, stdin=lines)
    assert (done.exit_code, done.out) == (OK, "counted 5, duplicate 0, refused 0, bad lines 2\n")
    assert "tally: line 5: 'never' is no time" in done.err
    assert "tally: line 6: video_id is not UTF-8" in done.err


async def test_a_quote_that_is_never_closed_costs_its_own_line_alone(stack: Stack) -> None:
    lines = HEADING + rows(3) + '"abc,view,,\n' + rows(5_000, 3)
    done = await run("replay", "-", "--skip-bad", address=stack.address, stdin=lines)
    assert (done.exit_code, done.out) == (OK, "counted 5003, duplicate 0, refused 0, bad lines 1\n")
    assert "tally: line 5: has a quote that is not closed on its line" in done.err


async def test_more_bad_lines_than_are_tolerated_are_told_and_the_others_are_counted(stack: Stack) -> None:
    lines = HEADING + rows(7) + "v1,view,1,\n" + "\n" + "v1,view,,1_000\n" + rows(1, 7)
    done = await run("replay", "-", "--skip-bad", address=stack.address, stdin=lines)
    assert (done.exit_code, done.out) == (REFUSED, "counted 8, duplicate 0, refused 0, bad lines 2\n")
    assert "tally: 2 of 10 lines were bad (20 %), and 10 % are tolerated (--max-bad)." in done.err


async def test_what_the_service_refuses_is_named_by_its_line(stack: Stack) -> None:
    lines = HEADING + rows(3) + "v1,view,2999-01-01,\n" + rows(2, 3)
    refused = await run("replay", "-", address=stack.address, stdin=lines)
    assert (refused.exit_code, refused.out) == (REFUSED, "counted 0, duplicate 0, refused 6, bad lines 0\n")
    assert "tally: line 5: must be from the year 2000 to 5 minutes ahead" in refused.err
    assert "tally: stopped, because the service refuses lines 2 to 7" in refused.err


async def test_with_skip_bad_a_refused_piece_is_left_out_and_the_exit_code_tells(stack: Stack) -> None:
    lines = HEADING + "v1,view,2999-01-01,\n" + rows()
    done = await run("replay", "-", "--skip-bad", address=stack.address, stdin=lines)
    assert (done.exit_code, done.out) == (REFUSED, "counted 7001, duplicate 0, refused 5000, bad lines 0\n")
    assert "tally: 5000 events were refused" in done.err


async def test_other_content_under_the_ids_of_a_replay_is_refused(stack: Stack) -> None:
    first = await run("replay", "-", address=stack.address, stdin=HEADING + rows(10))
    changed = await run(
        *("replay", "-", "--resume", resume_id(first.err)), address=stack.address, stdin=HEADING + rows(10, 1)
    )
    assert (changed.exit_code, changed.out) == (REFUSED, "counted 0, duplicate 0, refused 10, bad lines 0\n")
    assert (await counts(stack)).total() == 10


async def test_a_file_that_cannot_be_read_is_named(stack: Stack, tmp_path: Path) -> None:
    missing = await run("replay", tmp_path / "missing.csv", address=stack.address)
    assert missing.exit_code == REFUSED
    assert missing.err == f"tally: {tmp_path}/missing.csv cannot be read: No such file or directory\n"
    headless = await run("replay", "-", address=stack.address, stdin="v1,view\nv2,view\n")
    assert headless.exit_code == REFUSED
    assert "tally: line 1: the first line of a CSV file names its columns" in headless.err


async def test_a_server_that_goes_away_leaves_the_outcome_unknown(open_service: OpenService) -> None:
    async with open_service("all") as stack:
        process = await start("replay", "-", "--patience", "0", address=stack.address)
        assert process.stdin
        process.stdin.write((HEADING + rows(5_001)).encode())

        async def is_counted() -> bool:
            return (await counts(stack)).total() == 5_000

        await eventually(is_counted)
    ended = await finish(process, rows(2))
    assert (ended.exit_code, ended.out) == (UNKNOWN, "counted 5000, duplicate 0, refused 0, bad lines 0\n")
    assert f"tally: no answer for lines 5002 to 5004: nothing answers at {stack.address}" in ended.err
    assert "what was counted is not counted again" in ended.err
    assert "--request-id" not in ended.err


async def test_without_a_server_nothing_is_read(tmp_path: Path) -> None:
    away = await run("replay", tmp_path / "missing.csv", address="127.0.0.1:1")
    assert (away.exit_code, away.out) == (UNKNOWN, "")
    assert away.err.startswith(
        "tally: nothing answers at 127.0.0.1:1; start it with `make run` or `tally up`"
    )
