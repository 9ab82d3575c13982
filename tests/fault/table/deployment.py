"""What is broken: services in processes of their own on servers of their own, each to be killed and frozen by name.

Every process keeps its address over its lives. A shard named in PROXIED reaches Postgres through a proxy, which sees
and cuts its connections.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from libs.stores.schema import migrate
from services.counting.partitions import keep_partitions
from tests.fault.table.load import Doors
from tests.fault.table.pair import Pair, open_pair
from tests.support.processes import free_port, until_serving
from tests.support.proxy import Proxy, open_proxy
from tests.support.servers import Breakable, breakable_postgres, breakable_valkey

PARTITION_COUNT = 16
_STARTS = 4
SHARDS = ("counting-0", "counting-1", "counting-2")
PARTITIONERS = ("partitioner-0", "partitioner-1")
QUERIES = ("query-0", "query-1")
PROXIED = ("counting-0",)


@dataclass(slots=True)
class Member:
    """One process of the deployment."""

    name: str
    address: str
    env: dict[str, str]
    log: Path
    launcher: Sequence[str] = ("-m", "services")
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def service(self) -> str:
        return self.name.partition("-")[0]

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Start it, again when it dies of something that is not there yet, and wait until it serves."""
        for left in reversed(range(_STARTS)):
            self.kill()
            with self.log.open("ab") as output:
                self.process = subprocess.Popen(  # noqa: S603 - our own code
                    [sys.executable, *self.launcher, self.service],
                    env={**_inherited(), **self.env},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            try:
                await until_serving(self.process, self.address, self.service, self.log)
            except AssertionError:
                if not left:
                    raise
            else:
                return

    def kill(self) -> None:
        """SIGKILL, if it runs, and wait for the end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and wait; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 60)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@dataclass(slots=True)
class Deployment:
    """The processes by name, the servers under them, and the doors to them."""

    postgres: Breakable
    valkey: Breakable
    doors: Doors
    members: dict[str, Member] = field(default_factory=dict)
    pair: Pair | None = None
    proxies: dict[str, Proxy] = field(default_factory=dict)
    """by the name of the shard behind it"""

    @property
    def dsn(self) -> str:
        return self.pair.dsn if self.pair else self.postgres.url

    def kill(self, name: str) -> None:
        """SIGKILL to a process."""
        self.members[name].kill()

    def freeze(self, name: str) -> None:
        self.members[name].freeze()

    def thaw(self, name: str) -> None:
        self.members[name].thaw()

    async def until_serving(self) -> None:
        """Wait until all processes serve; those that died are started again."""
        dead = [member for member in self.members.values() if not member.is_running]
        await asyncio.gather(*(member.start() for member in dead))

    async def restart(self, name: str) -> None:
        """SIGTERM, and a start when it has ended in order."""
        assert await self.members[name].stop() == 0
        await self.members[name].start()


@asynccontextmanager
async def open_deployment(
    folder: Path, *, is_pair: bool = False, env: Mapping[str, str] | None = None
) -> AsyncIterator[Deployment]:
    """Start everything, with the settings that ship; `env` changes those of the shards.

    With `is_pair` Postgres is a primary and a synchronous standby, and no shard is behind a proxy.
    """
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(open_pair()) if is_pair else None
        postgres = pair.primary if pair else await stack.enter_async_context(breakable_postgres())
        valkey = await stack.enter_async_context(breakable_valkey())
        addresses = {name: f"127.0.0.1:{free_port()}" for name in (*SHARDS, *PARTITIONERS, *QUERIES)}
        partitioners = tuple(addresses[name] for name in PARTITIONERS)
        deployment = Deployment(
            postgres,
            valkey,
            Doors(
                f"ipv4:{','.join(partitioners)}",
                partitioners,
                tuple(addresses[name] for name in SHARDS),
                tuple(addresses[name] for name in QUERIES),
                PARTITION_COUNT,
            ),
        )
        deployment.pair = pair
        await _make_schema(deployment.dsn)
        shards = ",".join(f'"{addresses[name]}"' for name in SHARDS)
        for name, address in addresses.items():
            dsn = deployment.dsn
            if name in PROXIED and not is_pair:
                proxy = await stack.enter_async_context(open_proxy(dsn))
                deployment.proxies[name], dsn = proxy, proxy.dsn
            settings = {
                "TALLY_SERVER__ADDRESS": address,
                "TALLY_POSTGRES__DSN": dsn,
                "TALLY_VALKEY__URL": valkey.url,
                "TALLY_PARTITION_COUNT": str(PARTITION_COUNT),
                "TALLY_DATA_DIR": str(folder / name),
            }
            if name in SHARDS:
                settings |= {"TALLY_COUNTING__SHARD": name, **(env or {})}
            if name in PARTITIONERS:
                settings["TALLY_PARTITIONER__SHARDS"] = f"[{shards}]"
            deployment.members[name] = Member(name, address, settings, folder / f"{name}.log")
        for member in deployment.members.values():
            stack.callback(_end, member)
        await asyncio.gather(*(member.start() for member in deployment.members.values()))
        yield deployment


async def _make_schema(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await migrate(connection, PARTITION_COUNT)
        await keep_partitions(pool, ahead_hours=48)


def _end(member: Member) -> None:
    if member.is_running:
        member.thaw()
    member.kill()


def _inherited() -> dict[str, str]:
    """The environment without settings of Tally."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
