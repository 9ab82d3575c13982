"""The commands of the scheduler: those of docs/scheduler.md as they stand there, and what goes wrong."""

import asyncio
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from loadtests.youtube.__main__ import read_videos
from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import Simulator, open_simulator
from loadtests.youtube.videos import Catalog
from services.cli.scheduler.definitions import _Job, _Quota
from services.cli.terminal.failure import OK, REFUSED, UNKNOWN
from services.worker.settings import WorkerSettings, YoutubeSettings
from tally.client.scheduler import RunState
from tests.support.eventually import eventually
from tests.support.reach import client_tls, variables
from tests.support.servers import Servers, fresh_database
from tests.support.stack import Stack, open_stack
from tests.support.terminal import Ended, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scheduler.md").read_text()
JOB = "daily_sync_all_metadata_binned"
NOBODY = "127.0.0.1:1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """Every service, and a worker that calls the simulator."""
    simulator = Simulator(Catalog(read_videos()), Meter())
    async with open_simulator(simulator), fresh_database(servers.postgres_dsn, template) as dsn:
        youtube = YoutubeSettings(api_key=SecretStr(simulator.key), endpoint=simulator.url)
        overrides = {"worker": WorkerSettings(youtube=youtube)}
        folder = tmp_path_factory.mktemp("tally")
        async with open_stack(dsn, servers.valkey_url, folder, overrides=overrides) as opened:
            yield opened


async def shell(line: str, address: str) -> Ended:
    """A line of the page, in the folder of the repository."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    process = await asyncio.create_subprocess_shell(
        line.replace(".venv/bin/", f"{Path(sys.executable).parent}/"),
        cwd=ROOT,
        env={**env, **variables(), "TALLY_SERVER__ADDRESS": address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_the_page_works_as_it_stands(stack: Stack) -> None:
    first, second = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    said = {}
    for line in first.splitlines():
        said[line.split("tally ")[-1].split()[1]] = ended = await shell(line, stack.address)
        assert (ended.exit_code, ended.err) == (OK, ""), line
    assert said["import"].out == "2334 videos are new, 0 changed, 0 did not; bad lines 0\n"
    ran, runs, *others = second.splitlines()
    planned = await shell(ran, stack.address)
    found = re.match(
        rf"run (\d+) of {JOB} is planned: (\d+) members of bins \d, \d of 7, in \d slots", planned.out
    )
    assert found, planned

    async def is_done() -> bool:
        runs = (await stack.client.scheduler.list_runs(JOB)).items
        (one,) = (each for each in runs if each.id == int(found[1]))
        return one.state is RunState.DONE and one.outcomes.synced == int(found[2])

    await eventually(is_done)
    for line in (runs, *others):
        ended = await shell(line, stack.address)
        assert (ended.exit_code, ended.err) == (OK, ""), line
        said[line.split("tally ")[1].split()[-1]] = ended
    assert re.search(rf"{JOB} +\S+ \S+, repeat 1 +done +{found[2]} .*{found[2]} synced", said[JOB].out)
    assert re.search(r"youtube_units +10,000 +\d+ +0 +1,000 .* America/Los_Angeles", said["list"].out)
    assert re.search(r"metadata +0 +20\d\d-", said["workers"].out)
    assert len(re.findall(r"\d+\.\d\d %", said["youtube_video"].out)) == 7
    assert re.fullmatch(r"MBdVXkSdhwU: (synced|unchanged) \(run \d+\)\n", said["MBdVXkSdhwU"].out)


async def test_the_python_of_the_page_prints_what_it_says(stack: Stack) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = (
        code.replace('"127.0.0.1:50051"', f'"{stack.address}", tls=tls')
        .replace("MBdVXkSdhwU", "new-1")
        .replace("tt2k8PGm-TI", "new-2")
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        await asyncio.to_thread(exec, code, {"__name__": "example", "tls": client_tls()})
    assert printed.getvalue().splitlines() == re.findall(r"print\(.*\)  # (.*)", code)


async def test_every_key_of_a_job_is_on_the_page() -> None:
    described = set(re.findall(r"`(\w+)`", PAGE))
    assert set(_Job.model_fields) | set(_Quota.model_fields) <= described


async def test_a_bad_line_stops_an_import_or_is_left_out(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "videos.csv"
    file.write_text("youtube_id,is_oon\nbad-1,true\nbad-2,maybe\nbad-3,\n")
    stopped = await run("videos", "import", file, address=stack.address)
    assert (stopped.exit_code, stopped.out) == (REFUSED, "")
    assert "tally: line 3: is_oon is 'maybe', which is neither true nor false\n" in stopped.err
    assert "Nothing was put" in stopped.err
    tolerated = await run(
        "videos", "import", file, "--skip-bad", "--max-bad", "34", "--json", address=stack.address
    )
    assert tolerated.exit_code == OK
    assert json.loads(tolerated.out) == {
        "inserted_count": 2,
        "updated_count": 0,
        "unchanged_count": 0,
        "bad_lines": 1,
    }
    too_bad = await run("videos", "import", "-", "--skip-bad", address=stack.address, stdin=file.read_text())
    assert too_bad.exit_code == REFUSED
    assert "33.3 % of the lines were bad, and 10 % are tolerated" in too_bad.err
    channels = await run("channels", "import", "-", address=stack.address, stdin="youtube_id\nUC_1\n")
    assert channels.out == "1 channels are new, 0 changed, 0 did not; bad lines 0\n"


async def test_a_definition_that_is_wrong_is_refused_by_key(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    shipped = (ROOT / "services" / "scheduler" / "jobs" / "metadata.toml").read_text()
    for text, problem in (
        (shipped + "batches = 1\n", f"tally: {file}: batches: there is no such key\n"),
        (shipped.replace("sla_hours = 120", "sla_hours = 90"), "tally: job.sla_hours: must be at least 104"),
    ):
        file.write_text(text)
        refused = await run("jobs", "put", file, address=stack.address)
        assert (refused.exit_code, refused.out) == (REFUSED, "")
        assert problem in refused.err
    unknown = await run("jobs", "show", "nowhere", address=stack.address)
    assert (unknown.exit_code, "there is no job 'nowhere'" in unknown.err) == (REFUSED, True)


async def test_the_commands_of_dead_letters_say_what_they_did(stack: Stack, tmp_path: Path) -> None:
    shipped = (ROOT / "services" / "scheduler" / "jobs" / "metadata.toml").read_text()
    file = tmp_path / "job.toml"
    file.write_text(re.sub(r"(?m)^name = .*|^quotas = .*", "", shipped) + 'name = "dead_job"\n')
    assert (await run("jobs", "put", file, address=stack.address)).exit_code == OK
    listed = await run("jobs", "dead", "list", "dead_job", address=stack.address)
    assert (listed.exit_code, listed.out) == (OK, "no dead letters\n")
    dropped = await run("jobs", "dead", "drop", "dead_job", "a", "b", address=stack.address)
    assert (dropped.exit_code, dropped.out) == (OK, "0 items dropped\n")
    retried = await run("jobs", "dead", "retry", "dead_job", "a", address=stack.address)
    assert (retried.exit_code, "none of these items is a dead letter of dead_job" in retried.err) == (
        REFUSED,
        True,
    )


async def test_a_job_is_paused_and_resumed(stack: Stack, tmp_path: Path) -> None:
    shipped = (ROOT / "services" / "scheduler" / "jobs" / "metadata.toml").read_text()
    file = tmp_path / "job.toml"
    file.write_text(re.sub(r"(?m)^name = .*|^quotas = .*", "", shipped) + 'name = "paused_job"\n')
    assert (await run("jobs", "put", file, address=stack.address)).exit_code == OK
    paused = await run("jobs", "pause", "paused_job", "--reason", "upgrade", address=stack.address)
    assert (paused.exit_code, paused.out) == (OK, "paused_job is paused: upgrade\n")
    listed = await run("jobs", "list", address=stack.address)
    assert re.search(r"paused_job .* paused: +", listed.out)
    resumed = await run("jobs", "resume", "paused_job", address=stack.address)
    assert (resumed.exit_code, resumed.out) == (OK, "paused_job is active; 0 runs are open\n")
    for command in (
        ("pause", "nowhere", "--reason", "x"),
        ("resume", "nowhere"),
        ("pause", "paused_job", "--reason", " "),
    ):
        refused = await run("jobs", *command, address=stack.address)
        assert (refused.exit_code, refused.out) == (REFUSED, "")


async def test_a_run_is_cancelled_once(stack: Stack, tmp_path: Path) -> None:
    shipped = (ROOT / "services" / "scheduler" / "jobs" / "metadata.toml").read_text()
    file = tmp_path / "job.toml"
    file.write_text(re.sub(r"(?m)^name = .*|^quotas = .*", "", shipped) + 'name = "cancelled_job"\n')
    assert (await run("jobs", "put", file, address=stack.address)).exit_code == OK
    assert (
        await run("jobs", "pause", "cancelled_job", "--reason", "x", address=stack.address)
    ).exit_code == OK
    planned = await run("jobs", "run", "cancelled_job", "--json", address=stack.address)
    number = str(json.loads(planned.out)["id"])
    for _ in range(2):
        cancelled = await run("jobs", "cancel", number, "--reason", "mistake", address=stack.address)
        assert cancelled.exit_code == OK
        assert cancelled.out.startswith(f"run {number} of cancelled_job is cancelled: ")
    listed = await run("jobs", "runs", "cancelled_job", "--state", "cancelled", address=stack.address)
    assert "cancelled: mistake" in listed.out
    unknown = await run("jobs", "cancel", "1000000000", "--reason", "mistake", address=stack.address)
    assert (unknown.exit_code, "there is no run 1000000000" in unknown.err) == (REFUSED, True)


async def test_an_item_that_a_job_does_not_select_is_not_forced(stack: Stack, tmp_path: Path) -> None:
    shipped = (ROOT / "services" / "scheduler" / "jobs" / "metadata.toml").read_text()
    file = tmp_path / "job.toml"
    file.write_text(re.sub(r"(?m)^name = .*|^quotas = .*", "", shipped) + 'name = "forced_job"\n')
    assert (await run("jobs", "put", file, address=stack.address)).exit_code == OK
    refused = await run("jobs", "force", "forced_job", "nowhere", address=stack.address)
    assert (refused.exit_code, refused.out) == (REFUSED, "")
    assert "forced_job selects no 'nowhere'" in refused.err


async def test_without_a_server_commands_say_how_to_start_one() -> None:
    commands = [("videos", "import", "-"), ("jobs", "run", "x")]
    _, ran = ended = await asyncio.gather(*(run(*command, address=NOBODY) for command in commands))
    for away in ended:
        assert (away.exit_code, away.out) == (UNKNOWN, "")
        assert f"nothing answers at {NOBODY}; start it with `make run` or `tally up`" in away.err
    assert "To be sure that one run is planned, run the same again with --request-id " in ran.err
