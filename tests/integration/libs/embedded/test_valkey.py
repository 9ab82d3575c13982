"""Valkey is a bounded cache that starts empty, whatever was before."""

import os
import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis

from libs.embedded.valkey import EmbeddedValkeySettings, open_valkey
from tally.contract.errors import NotReady
from tests.integration.libs.embedded.holding import eventually, hold, is_deserted, read_address


async def write(url: str) -> None:
    async with Redis.from_url(url) as client:
        await client.set("key", "value")
        assert await client.get("key") == b"value"


async def is_empty(url: str) -> bool:
    async with Redis.from_url(url) as client:
        return bool(await client.dbsize() == 0)


async def test_it_is_bounded_private_and_keeps_nothing(tmp_path: Path) -> None:
    async with open_valkey(tmp_path, settings=EmbeddedValkeySettings(max_memory_mb=16)) as url:
        await write(url)
        async with Redis.from_url(url) as client:
            found = await client.config_get("*")
    wanted = {
        "maxmemory": str(16 * 2**20), "maxmemory-policy": "volatile-lru", "save": "", "appendonly": "no",
        "port": "0", "unixsocketperm": "700",
    }  # fmt: skip
    assert wanted.items() <= found.items()
    assert is_deserted(tmp_path, "valkey-server")
    async with open_valkey(tmp_path) as url:
        assert await is_empty(url)


async def test_a_killed_parent_takes_its_server_along(tmp_path: Path) -> None:
    async with hold("valkey", tmp_path) as parent:
        await write(await read_address(parent))
        parent.kill()
        await eventually(lambda: is_deserted(tmp_path, "valkey-server"))
    async with open_valkey(tmp_path) as url:
        assert await is_empty(url)


async def test_a_server_that_outlived_its_parent_is_found_and_replaced(tmp_path: Path) -> None:
    async with hold("valkey", tmp_path) as parent:
        await write(await read_address(parent))
        survivor = int((tmp_path / "valkey.pid").read_text())
        os.kill(survivor, signal.SIGSTOP)
        parent.kill()
        await parent.wait()
        async with open_valkey(tmp_path) as url:
            assert int((tmp_path / "valkey.pid").read_text()) != survivor
            assert await is_empty(url)


async def test_a_second_opener_learns_who_has_the_folder(tmp_path: Path) -> None:
    async with open_valkey(tmp_path):
        with pytest.raises(NotReady, match=f"in use by another Tally \\(pid {os.getpid()}\\)"):
            async with open_valkey(tmp_path):
                pass


@pytest.mark.parametrize("name", ["d" * 200, os.fsdecode(b"caf\xe9"), 'it\'s 50% "ünïcödé", with commas?&#'])
async def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    async with open_valkey(tmp_path / name) as url:
        await write(url)
