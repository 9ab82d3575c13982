"""A service is its own files and one row: a copy of this repository with a toy service runs, and passes its checks.

A change elsewhere that the toy service needs is a defect: mend that, and not this test.
"""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from libs.telemetry import catalogue
from tally.client import Client, TallyError
from tests.support.eventually import eventually
from tests.support.otlp import open_collector
from tests.support.processes import free_port
from tests.support.servers import Servers, fresh_database
from tests.support.terminal import Ended, finish, kill, start
from tests.toy.source_tree import environment_of, make_tree

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

TOY = "tally.toy.v1.ToyService"
PUT_AND_GET = """
import sys
from tally.client.blocking import Client

with Client(sys.argv[1]) as client:
    client.count("ball")
    client.toy.put("ball", "red")
    print(client.toy.get("ball"))
"""
# What is about each service of the table, or about all of them; of the manifests one rendering is enough.
CHECKS = (
    *("-k", "local or not k8s", "tests/k8s"),
    "tests/unit/proto",
    "tests/unit/services/test_client_surface.py",
    "tests/unit/services/test_made_files.py",
    "tests/unit/services/test_settings_table.py",
    "tests/unit/services/devcluster",
    "tests/unit/test_deadlines.py",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the toy service in it."""
    folder = tmp_path_factory.mktemp("tree")
    make_tree(folder)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(servers: Servers, tree: Path) -> AsyncIterator[dict[str, str]]:
    """The variables for services on a migrated database."""
    async with fresh_database(servers.postgres_dsn) as dsn:
        variables = {"TALLY_POSTGRES__DSN": dsn, "TALLY_VALKEY__URL": servers.valkey_url, **modules_of(tree)}
        migrated = await tally("migrate", **variables)
        assert "toy/0001_toys" in migrated.out.splitlines(), migrated.err
        yield variables


@asynccontextmanager
async def serving(service: str, health: str, folder: Path, **variables: str) -> AsyncIterator[str]:
    """`tally up` of a service; yields its address when it serves. It ends in good order."""
    address = f"127.0.0.1:{free_port()}"
    process = await start("up", service, address=address, TALLY_DATA_DIR=str(folder), **variables)
    try:
        await until_serving(process, address, health)
        yield address
        process.send_signal(signal.SIGTERM)
        ended = await asyncio.wait_for(finish(process), 30)
        assert ended.exit_code == 0, ended.err
    finally:
        if process.returncode is None:
            await kill(process)


async def until_serving(process: Process, address: str, health: str) -> None:
    async def is_serving() -> bool:
        assert process.returncode is None, await finish(process)
        try:
            async with Client(address, timeout=1.0) as client:
                return await client.health(health) == "SERVING"
        except TallyError:
            return False

    await eventually(is_serving, 60.0)


async def check_toy(address: str, tree: Path) -> None:
    """The service is there for the client, the command line and `tally status`."""
    modules = modules_of(tree)
    called = await run_in(tree, sys.executable, "-c", PUT_AND_GET, address)
    assert called.out.startswith("FoundToy(colour='red', view_count="), called.err
    put, status = await asyncio.gather(
        tally("toy", "put", "ball", "green", address=address, **modules),
        tally("status", "--json", address=address, **modules),
    )
    assert put == Ended(0, "ball is green\n", "")
    assert json.loads(status.out)["services"][TOY] == "SERVING"
    assert json.loads(status.out)["problems"] == []
    got = await tally("toy", "get", "ball", address=address, **modules)
    assert got.out.startswith("ball is green and was viewed "), got.err


async def test_it_runs_in_all_beside_the_others(stores: dict[str, str], tree: Path, tmp_path: Path) -> None:
    async with serving("all", "", tmp_path, **stores) as address:
        await check_toy(address, tree)


async def test_it_runs_split_with_settings_a_schema_and_metrics_of_its_own(
    stores: dict[str, str], tree: Path, tmp_path: Path
) -> None:
    modules = modules_of(tree)
    with open_collector() as collector:
        telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        async with serving("query", "tally.query.v1.QueryService", tmp_path, **stores) as query:
            own = {"TALLY_TOY__QUERY": json.dumps([query]), "TALLY_TOY__COLOURS": '["blue"]'}
            async with serving("toy", TOY, tmp_path, **stores, **own, **telemetry) as address:
                red, blue = await asyncio.gather(
                    *(
                        tally("toy", "put", "car", colour, address=address, **modules)
                        for colour in ("red", "blue")
                    )
                )
                assert (red.exit_code, red.err) == (1, "tally: colour: must be one of blue\n")
                assert blue == Ended(0, "car is blue\n", "")
                got = await tally("toy", "get", "car", address=address, **modules)
                assert got.out == "car is blue and was viewed 0 times\n"
    database = await asyncpg.connect(stores["TALLY_POSTGRES__DSN"])
    try:
        assert await database.fetchval("select colour from toy.toy where name = 'car'") == "blue"
    finally:
        await database.close()
    timed = {
        label.value.string_value.partition("/")[0]
        for metric in collector.metrics
        if metric.name == catalogue.RPC_SERVER_DURATION.name
        for point in metric.histogram.data_points
        for label in point.attributes
        if label.key == "rpc.method"
    }
    assert TOY in timed


async def test_its_manifests_settings_and_roles_pass_the_checks_of_all_services(tree: Path) -> None:
    checked = await run_in(tree, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CHECKS)
    assert checked.exit_code == 0, checked.out


async def test_the_import_contracts_know_it(tree: Path) -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    kept = await run_in(tree, lint_imports)
    assert kept.exit_code == 0, kept.out
    borrowed = tree / "services" / "toy" / "borrowed.py"
    borrowed.write_text("from services.query.reader import Reader\n\n__all__ = ['Reader']\n")
    broken = await run_in(tree, lint_imports)
    borrowed.unlink()
    assert "services.toy is not allowed to import services.query" in broken.out


async def tally(*arguments: str, address: str = "", **variables: str) -> Ended:
    """Run the installed command, whose modules are those of the copy, and wait for its end."""
    return await finish(await start(*arguments, address=address, **variables))


def modules_of(tree: Path) -> dict[str, str]:
    """The variable that leads a Python to the modules of the copy."""
    return {"PYTHONPATH": environment_of(tree)["PYTHONPATH"]}


async def run_in(tree: Path, *command: str | Path) -> Ended:
    """Run a program in the copy, and wait for its end."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tree, env=environment_of(tree), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    return await finish(process)


async def test_a_cluster_runs_it_behind_its_front_proxy(tree: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    one_of_each = [f"--replicas={name}=1" for name in ("counting", "query", "catalog", "scheduler", "worker")]
    cluster = await start(
        "cluster",
        *one_of_each,
        "--replicas=toy=2",
        "--data-dir",
        tmp_path,
        address=address,
        **modules_of(tree),
    )
    try:
        assert cluster.stdout is not None
        table = ""
        while "Ready." not in table:
            line = await asyncio.wait_for(cluster.stdout.readline(), 120)
            assert line, await finish(cluster)
            table += line.decode()
        assert {"toy-0", "toy-1"} <= set(table.split())
        await check_toy(address, tree)
        cluster.send_signal(signal.SIGINT)
        ended = await asyncio.wait_for(finish(cluster), 60)
        assert ended.exit_code == 0, ended.err
        stopping = [line for line in ended.out.splitlines() if line.startswith("Stopping")]
        assert [
            ("toy-0" in line, "query-0" in line) for line in stopping if "toy-0" in line or "query-0" in line
        ] == [
            (True, False),
            (False, True),
        ]
    finally:
        if cluster.returncode is None:
            await kill(cluster)
