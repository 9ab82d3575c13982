"""The process of `tally up`: it serves in any environment, and ends in order, or at once where its data are gone."""

import asyncio
import os
import re
import shutil
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from libs.rpc.channel import ChannelSettings, open_channel
from services.cli.terminal.failure import OK, REFUSED, USAGE
from tally.ingest.v1.ingest_pb2 import CountEventRequest
from tally.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from tests.support.database import PARTITION_COUNT
from tests.support.eventually import eventually
from tests.support.processes import free_port, run_service
from tests.support.reach import channel_tls, open_client, variables
from tests.support.servers import copy_cluster
from tests.support.terminal import TALLY, finish, run, start

NO_RETRIES = ChannelSettings(max_attempts=1, tls=channel_tls())
SERVING = b"Tally is serving."
HOSTILE = {
    "PGSSLMODE": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGHOST": "10.255.255.1",
    "http_proxy": "http://127.0.0.1:9",
    "PYTHONIOENCODING": "iso-8859-1",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "not looked at",
}


@asynccontextmanager
async def serving(
    folder: Path, address: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """`tally up` with its data in `folder`, killed at the end unless it has ended."""
    await copy_cluster(folder / "postgres")
    settings = {"TALLY_DATA_DIR": str(folder), "TALLY_PARTITION_COUNT": str(PARTITION_COUNT)}
    tally = await start("up", address=address, **settings, **(environment or {}))
    try:
        await read_until(tally, SERVING)
        yield tally
    finally:
        if tally.returncode is None:
            tally.kill()
        await tally.communicate()


async def read_until(process: Process, sentence: bytes) -> bytes:
    assert process.stdout is not None
    told = b""
    async with asyncio.timeout(60):
        while sentence not in told:
            line = await process.stdout.readline()
            assert line, (told, process.stderr and await process.stderr.read())
            told += line
    return told


@pytest.mark.parametrize("name", ["a%41b" * 20, "a file"])
async def test_it_serves_whatever_the_environment_holds(tmp_path: Path, name: str) -> None:
    temporary = tmp_path / name
    if name == "a file":
        temporary.touch()
    else:
        temporary.mkdir()
    port = free_port()
    environment = {**HOSTILE, "TMPDIR": str(temporary), "TALLY_SERVER__OPEN": "true"}
    tally = await start("up", address=f"0.0.0.0:{port}", TALLY_DATA_DIR=str(tmp_path / "data"), **environment)
    try:
        told = await read_until(tally, b"Ctrl-C stops it")
        # The banner's own line, in the same environment.
        line = next(line for line in told.decode("iso-8859-1").splitlines() if " count " in line)
        counted = await run(*line.split()[1:], **environment)
        assert counted.out == "counted 1 view of MBdVXkSdhwU\n", counted.err
        async with open_client(f"127.0.0.1:{port}", transport="direct") as direct:
            assert (await direct.count("MBdVXkSdhwU")).accepted_count == 1
        tally.send_signal(signal.SIGTERM)
        ended = await finish(tally)
        assert ended.exit_code == OK
        assert "Traceback" not in ended.err
        assert "opentelemetry" not in ended.err
    finally:
        if tally.returncode is None:
            tally.kill()
    assert not list((tmp_path / "data").glob("**/sockets-*"))


async def test_a_removed_data_folder_ends_the_process_within_two_seconds(tmp_path: Path) -> None:
    folder, address = tmp_path / "data", f"127.0.0.1:{free_port()}"
    async with serving(folder, address) as tally, open_channel(address, NO_RETRIES) as channel:
        assert await counts(channel)
        await (await asyncio.create_subprocess_exec("rm", "-rf", folder)).wait()
        removed_at = time.monotonic()
        while await counts(channel):
            assert time.monotonic() - removed_at < 2.0
        ended = await asyncio.wait_for(finish(tally), 5)
        assert time.monotonic() - removed_at < 4.0  # with what the call above waited
        assert ended.exit_code == REFUSED
        assert "tally: cannot go on: " in ended.err
        # The socket in it may be missed first.
        assert re.search("was removed( or replaced)? while it was in use", ended.err)
        assert "Traceback" not in ended.err


async def test_a_removed_socket_ends_the_process_with_the_reason(tmp_path: Path) -> None:
    async with serving(tmp_path, f"127.0.0.1:{free_port()}") as tally:
        (path,) = tmp_path.glob("sockets-*/counting.sock")
        path.unlink()
        ended = await asyncio.wait_for(finish(tally), 20)
    assert ended.exit_code == REFUSED
    assert f"the socket {path} was removed while it was in use" in ended.err


async def test_a_shard_whose_spool_is_removed_ends_with_the_reason(
    dsn: str, valkey_url: str, tmp_path: Path
) -> None:
    async with run_service("counting", dsn, valkey_url, tmp_path) as shard:
        shutil.rmtree(tmp_path / "spool")
        assert await asyncio.to_thread(shard.process.wait, 20) == REFUSED
    (log,) = tmp_path.glob("counting-*.log")
    assert "spool.sqlite was removed or replaced while it was in use" in log.read_text()


async def test_it_stops_in_order_with_every_standard_stream_closed(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m services all <&- >&- 2>&-"
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        **variables(),
        "TALLY_DATA_DIR": str(tmp_path),
        "TALLY_SERVER__ADDRESS": address,
    }
    tally = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, env=environment)
    try:
        async with open_channel(address, NO_RETRIES) as channel:
            await eventually(lambda: counts(channel), 60.0)
        tally.terminate()
        assert await tally.wait() == OK
    finally:
        if tally.returncode is None:
            tally.kill()


async def test_a_signal_ends_it_before_anything_large_is_imported(tmp_path: Path) -> None:
    tally = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "all"),
        env={**os.environ, "TALLY_DATA_DIR": str(tmp_path / "data")},
        stdout=DEVNULL,
        stderr=PIPE,
    )
    process = psutil.Process(tally.pid)
    while not catches(process.pid, signal.SIGTERM):  # noqa: ASYNC110 - each moment counts
        await asyncio.sleep(0)
    process.suspend()
    try:
        libraries = {Path(found.path).name for found in process.memory_maps()}
        assert not [name for name in libraries if "cygrpc" in name or "pydantic" in name]
        tally.send_signal(signal.SIGTERM)
    finally:
        process.resume()
    _, errors = await asyncio.wait_for(tally.communicate(), 10)
    assert (tally.returncode, errors) == (OK, b"")
    assert not (tmp_path / "data").exists()


async def counts(channel: grpc.aio.Channel) -> bool:
    """Whether an event is acknowledged."""
    stub: Any = IngestServiceStub(channel)
    try:
        await stub.CountEvent(CountEventRequest(video_id="video", event_type="view"), timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return True


def catches(pid: int, number: signal.Signals) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    raise AssertionError("there is always such a line")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
                "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "10s",
            },
            "tally: OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is '10s', and must be a number of seconds, such as 10\n",
        ),
    ],
)
async def test_a_variable_that_cannot_be_used_is_named(
    tmp_path: Path, variables: Mapping[str, str], sentence: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    wrong = await run("up", address=address, TALLY_DATA_DIR=str(tmp_path), **variables)
    assert (wrong.exit_code, wrong.err) == (REFUSED, sentence)


@pytest.mark.parametrize("command", [b"count", b"get"])
async def test_an_argument_that_is_not_utf8_is_a_wrong_use(command: bytes) -> None:
    process = await asyncio.create_subprocess_exec(
        *(TALLY, command, b"caf\xe9"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    ended = await finish(process)
    assert ended.exit_code == USAGE
    assert "is not UTF-8" in ended.err
    assert "Traceback" not in ended.err
