"""What is broken: services in processes of their own on servers of their own, each to be killed and frozen by name.

Every process keeps its address over its lives. A shard named in `proxied` reaches Postgres through a proxy, which sees
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
from tests.support.processes import free_port, until_serving
from tests.support.proxy import Proxy, open_proxy
from tests.support.servers import Breakable, breakable_postgres, breakable_valkey

PARTITION_COUNT = 16
SHARDS = ("counting-0", "counting-1", "counting-2")
PARTITIONERS = ("partitioner-0", "partitioner-1")
QUERIES = ("query-0", "query-1")


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

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self.kill()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own code
                [sys.executable, *self.launcher, self.service],
                env={**_inherited(), **self.env},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        await until_serving(self.process, self.address, self.service, self.log)

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
    proxies: dict[str, Proxy] = field(default_factory=dict)
    """by the name of the shard behind it"""

    @property
    def dsn(self) -> str:
        return self.postgres.url


@asynccontextmanager
async def open_deployment(
    folder: Path, *, proxied: Sequence[str] = SHARDS[:1], env: Mapping[str, str] | None = None
) -> AsyncIterator[Deployment]:
    """Start everything, with the settings that ship; `env` changes those of the shards."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(breakable_postgres())
        valkey = await stack.enter_async_context(breakable_valkey())
        await _make_schema(postgres.url)
        addresses = {name: f"127.0.0.1:{free_port()}" for name in (*SHARDS, *PARTITIONERS, *QUERIES)}
        partitioners = tuple(addresses[name] for name in PARTITIONERS)
        deployment = Deployment(
            postgres,
            valkey,
            Doors(
                f"ipv4:{','.join(partitioners)}",
                partitioners,
                tuple(addresses[name] for name in QUERIES),
                PARTITION_COUNT,
            ),
        )
        shards = ",".join(f'"{addresses[name]}"' for name in SHARDS)
        for name, address in addresses.items():
            dsn = postgres.url
            if name in proxied:
                proxy = await stack.enter_async_context(open_proxy(dsn))
                deployment.proxies[name], dsn = proxy, proxy.dsn
            settings = {
                "TALLY_SERVER__ADDRESS": address,
                "TALLY_POSTGRES__DSN": dsn,
                "TALLY_VALKEY__URL": valkey.url,
                "TALLY_PARTITION_COUNT": str(PARTITION_COUNT),
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
    if member.process is not None and member.process.poll() is None:
        member.thaw()
    member.kill()


def _inherited() -> dict[str, str]:
    """The environment without settings of Tally."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
