"""Postgres keeps its data through every kind of end, and says what is wrong when it cannot start."""

import asyncio
import os
import shutil
import signal
import stat
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest

from libs.embedded.postgres import (
    SOCKET,
    EmbeddedPostgresSettings,
    choose_wal_size_mb,
    open_postgres,
    read_pid,
)
from libs.embedded.sockets import open_socket_folder
from tally.contract.errors import NotReady
from tests.integration.libs.embedded.holding import eventually, has, hold, is_alive, is_deserted, read_address

BUSY = "do $$ begin while clock_timestamp() < now() + interval '100 s' loop end loop; end $$"

HOSTILE = {
    "PGSSLMODE": "verify-full", "PGSSLNEGOTIATION": "direct", "PGTARGETSESSIONATTRS": "standby",
    "PGHOST": "10.255.255.1", "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "none", "PGPASSWORD": "wrong",
    "PGPASSFILE": "/dev/null", "PGSERVICE": "none", "PGSERVICEFILE": "/none", "PGSSLROOTCERT": "/none",
    "PGGSSLIB": "none", "PGOPTIONS": "--none", "PGDATA": "/none",
}  # fmt: skip


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


async def write(dsn: str, *values: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table if not exists kept (value int)")
    for value in values:
        await connection.execute("insert into kept values ($1)", value)
    await connection.close()


async def read(dsn: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("select value from kept order by value")
    await connection.close()
    return [row["value"] for row in rows]


def find_pid(folder: Path) -> int:
    pid = read_pid(folder / "pgdata")
    assert pid is not None
    return pid


async def test_a_restart_keeps_the_data_and_the_address(tmp_path: Path) -> None:
    with open_socket_folder(tmp_path / "data") as sockets:
        async with open_postgres(tmp_path / "data", sockets=sockets) as first:
            await write(first, 1, 2, 3)
        assert is_deserted(tmp_path / "data" / "pgdata", "postgres")
        shutil.rmtree(sockets.path)
        async with open_postgres(tmp_path / "data", sockets=sockets) as second:
            assert second == first
            assert await read(second) == [1, 2, 3]


async def test_it_is_durable_private_and_set_as_asked(tmp_path: Path) -> None:
    settings = EmbeddedPostgresSettings(shared_buffers_mb=32, max_wal_size_mb=128, max_connections=30)
    async with open_postgres(tmp_path / "data", settings=settings) as dsn:
        connection = await asyncpg.connect(dsn)
        rows = await connection.fetch("select name, setting from pg_settings")
        charset = await connection.fetchval(
            "select pg_encoding_to_char(encoding) from pg_database where datname = 'tally'"
        )
        await connection.close()
    found = {row["name"]: row["setting"] for row in rows}
    wanted = {
        "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
        "listen_addresses": "", "unix_socket_permissions": "0700", "TimeZone": "UTC", "jit": "off",
        "wal_compression": "off", "shared_buffers": "4096", "max_wal_size": "128", "max_connections": "30",
    }  # fmt: skip
    assert wanted.items() <= found.items()
    assert charset == "UTF8"
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


async def test_a_killed_parent_takes_its_server_along_and_loses_nothing(tmp_path: Path) -> None:
    async with hold("postgres", tmp_path) as parent:
        await write(await read_address(parent), *range(100))
        parent.kill()
        await eventually(lambda: is_deserted(tmp_path / "pgdata", "postgres"))
    async with open_postgres(tmp_path) as dsn:
        assert await read(dsn) == list(range(100))


async def test_a_start_right_after_the_kill_of_the_parent_finds_all_data(tmp_path: Path) -> None:
    async with hold("postgres", tmp_path) as parent:
        await write(await read_address(parent), *range(100))
        parent.kill()
        await parent.wait()
        async with open_postgres(tmp_path) as dsn:
            assert await read(dsn) == list(range(100))


async def test_a_server_that_outlived_its_parent_is_found_and_replaced(tmp_path: Path) -> None:
    async with hold("postgres", tmp_path) as parent:
        await write(await read_address(parent), 1)
        survivor = find_pid(tmp_path)
        os.kill(survivor, signal.SIGSTOP)
        parent.kill()
        await parent.wait()
        assert not is_deserted(tmp_path / "pgdata", "postgres")
        async with open_postgres(tmp_path) as dsn:
            assert find_pid(tmp_path) != survivor
            assert await read(dsn) == [1]


async def test_busy_workers_of_a_killed_server_do_not_hinder_the_next_start(tmp_path: Path) -> None:
    async with hold("postgres", tmp_path) as parent:
        dsn = await read_address(parent)
        await write(dsn, 1)
        connection = await asyncpg.connect(dsn)
        # It never looks up from its work, so it does not notice that the postmaster has gone.
        busy = asyncio.create_task(connection.execute(BUSY))
        worker = connection.get_server_pid()
        await eventually(lambda: psutil.Process(worker).cpu_times().user > 0.1)
        os.kill(find_pid(tmp_path), signal.SIGKILL)
        parent.kill()
        await parent.wait()
        async with open_postgres(tmp_path) as again:
            assert not is_alive(worker)
            assert await read(again) == [1]
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await busy


async def test_a_kill_while_the_cluster_is_made_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    async with hold("postgres", tmp_path) as parent:
        await eventually(lambda: has(tmp_path, "initdb-*/PG_VERSION"))
        parent.kill()
        await parent.wait()
    assert not (tmp_path / "pgdata").exists()
    async with open_postgres(tmp_path) as dsn:
        await write(dsn, 1)
        assert not has(tmp_path, "initdb-*")


async def test_a_second_opener_learns_who_has_the_folder(tmp_path: Path) -> None:
    async with hold("postgres", tmp_path) as parent:
        dsn = await read_address(parent)
        with pytest.raises(NotReady, match=f"in use by another Tally \\(pid {parent.pid}\\)"):
            async with open_postgres(tmp_path):
                pass
        await write(dsn, 1)
        assert await read(dsn) == [1]


async def test_pid_files_that_name_a_stranger_are_ignored_and_the_stranger_is_spared(
    tmp_path: Path, stack: ExitStack
) -> None:
    sockets = stack.enter_context(open_socket_folder(tmp_path))
    async with open_postgres(tmp_path, sockets=sockets) as dsn:
        await write(dsn, 1)
        pid_file = (tmp_path / "pgdata" / "postmaster.pid").read_text()
        lock_file = (sockets.path / ".s.PGSQL.5432.lock").read_text()
        own = str(find_pid(tmp_path))
    stranger = await asyncio.create_subprocess_exec("sleep", "600", stdout=DEVNULL)
    try:
        (tmp_path / "pgdata" / "postmaster.pid").write_text(pid_file.replace(own, str(stranger.pid)))
        (sockets.path / ".s.PGSQL.5432.lock").write_text(lock_file.replace(own, str(stranger.pid)))
        async with open_postgres(tmp_path, sockets=sockets) as dsn:
            assert await read(dsn) == [1]
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


@pytest.mark.parametrize("name", ["d" * 200, os.fsdecode(b"caf\xe9"), 'it\'s 50% "ünïcödé", with commas?&#'])
async def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "postgres"
    async with open_postgres(folder) as dsn:
        await write(dsn, 1)
    async with open_postgres(folder) as dsn:
        assert await read(dsn) == [1]


async def test_no_variable_of_the_environment_changes_how_our_own_server_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    async with open_postgres(tmp_path) as dsn, asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        assert await pool.fetchval("select current_user") == "tally"


async def test_a_dsn_of_the_users_own_keeps_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_postgres(tmp_path) as dsn:
        sockets = parse_qs(urlsplit(dsn).query)["host"][0]
        monkeypatch.setenv("PGHOST", sockets)
        monkeypatch.setenv("PGUSER", "tally")
        connection = await asyncpg.connect("postgresql:///tally")
        assert await connection.fetchval("select current_user") == "tally"
        await connection.close()


async def test_a_socket_that_is_removed_is_told(tmp_path: Path) -> None:
    faults: list[str] = []
    with open_socket_folder(tmp_path) as sockets:
        async with open_postgres(tmp_path, sockets=sockets, on_death=faults.append) as dsn:
            await write(dsn, 1)
            (sockets.path / SOCKET).unlink()
            await eventually(lambda: bool(faults))
    assert len(faults) == 1
    assert f"Postgres cannot be used any more: the socket {sockets.path / SOCKET} was removed" in faults[0]


async def test_a_copy_of_a_folder_in_use_starts_and_leaves_the_original_alone(tmp_path: Path) -> None:
    original, copy = (
        tmp_path / ("original" * 12),
        tmp_path / ("copy" * 25),
    )  # longer than a socket's path may be
    async with hold("postgres", original) as parent:
        dsn = await read_address(parent)
        await write(dsn, 1)
        connection = await asyncpg.connect(dsn)
        await connection.execute("checkpoint")
        await connection.close()
        copying = await asyncio.create_subprocess_exec("cp", "-a", original, copy)
        assert await copying.wait() == 0
        async with open_postgres(copy) as other:
            await write(other, 2)
            await write(dsn, 3)
            assert (await read(dsn), await read(other)) == ([1, 3], [1, 2])


@pytest.mark.parametrize(
    ("disk_gib", "free_gib", "wanted_mb"),
    [(1_000, 500, 8192), (20, 15, 2048), (20, 1, 512), (0.25, 0.2, 64), (100, 0.0, 64)],
)
def test_the_write_ahead_log_is_in_proportion_to_the_disk(
    disk_gib: float, free_gib: float, wanted_mb: int
) -> None:
    disk_bytes, free_bytes = int(disk_gib * 1024**3), int(free_gib * 1024**3)
    assert choose_wal_size_mb(EmbeddedPostgresSettings(), disk_bytes, free_bytes) == wanted_mb
    chosen = EmbeddedPostgresSettings(max_wal_size_mb=300)
    assert choose_wal_size_mb(chosen, disk_bytes, free_bytes) == 300


async def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    async with open_postgres(tmp_path):
        pass
    (tmp_path / "pgdata" / "PG_VERSION").write_text("7\n")
    with pytest.raises(NotReady, match="initialized by PostgreSQL version 7") as caught:
        async with open_postgres(tmp_path):
            pass
    assert str(tmp_path / "postgres.log") in str(caught.value)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReady, match=f"{tmp_path}/file/data cannot be used"):
        async with open_postgres(tmp_path / "file" / "data"):
            pass


async def test_nothing_is_printed_and_the_terminals_signals_do_not_reach_the_server(tmp_path: Path) -> None:
    async with hold("postgres", tmp_path) as parent:
        await read_address(parent)
        server = find_pid(tmp_path)
        assert os.getsid(server) == server
        assert os.getpgid(server) == server
        output, errors = await parent.communicate(b"")
        assert (output, errors, parent.returncode) == (b"", b"", 0)
    assert is_deserted(tmp_path / "pgdata", "postgres")
