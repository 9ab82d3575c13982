"""Where the shards are, when names come to mean something else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from services.partitioner.routing import discovery
from services.partitioner.routing.discovery import Discovery
from tests.support.eventually import eventually

NAME = "dns:///counting.tally:50051"


class Names:
    """A name server."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] | OSError = addresses
        self.asked: list[tuple[str, int]] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        if isinstance(self.addresses, OSError):
            raise self.addresses
        return self.addresses


@asynccontextmanager
async def following(names: Names, *shards: str) -> AsyncIterator[tuple[Discovery, list[set[str]]]]:
    found = Discovery(shards, 0.001, names.resolve)
    changes: list[set[str]] = []
    loops = [
        asyncio.create_task(found.follow(name, lambda: changes.append(found.addresses)).run())
        for name in found.names
    ]
    try:
        yield found, changes
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def asked_again(names: Names) -> None:
    """Wait until the name was looked up from now on, and the answer was read."""
    before = len(names.asked)

    async def is_asked() -> bool:
        return len(names.asked) >= before + 2

    await eventually(is_asked)


async def test_addresses_are_known_at_once_and_names_when_they_are_looked_up() -> None:
    names = Names("10.0.0.1:50051", "[fd00::1]:50051")
    async with following(names, "a:1", "unix:/run/b", NAME) as (found, changes):
        assert found.addresses == {"a:1", "unix:/run/b"}
        await asked_again(names)
        assert found.addresses == {"a:1", "unix:/run/b", "10.0.0.1:50051", "[fd00::1]:50051"}
        assert changes == [found.addresses]
    assert set(names.asked) == {("counting.tally", 50051)}


async def test_shards_come_and_go_with_the_records_of_their_name() -> None:
    names = Names("10.0.0.1:1")
    async with following(names, NAME) as (found, changes):
        await asked_again(names)
        names.addresses = ["10.0.0.2:1", "10.0.0.1:1"]
        await asked_again(names)
        names.addresses = ["10.0.0.1:1", "10.0.0.2:1"]  # the order is nothing to it
        await asked_again(names)
        names.addresses = ["10.0.0.2:1"]
        await asked_again(names)
        assert changes == [{"10.0.0.1:1"}, {"10.0.0.1:1", "10.0.0.2:1"}, {"10.0.0.2:1"}]
        assert found.addresses == {"10.0.0.2:1"}


@pytest.mark.parametrize("trouble", [OSError("no such name"), ()], ids=["error", "empty"])
async def test_a_name_that_does_not_resolve_now_keeps_what_it_had(trouble: OSError | tuple[str, ...]) -> None:
    names = Names("10.0.0.1:1")
    async with following(names, NAME) as (found, changes):
        await asked_again(names)
        names.addresses = trouble
        await asked_again(names)
        assert found.addresses == {"10.0.0.1:1"}
        assert len(changes) == 1


@pytest.mark.parametrize("name", ["dns:///[::1]:7", "dns:[::1]:7"])
async def test_a_name_may_be_an_address(name: str) -> None:
    names = Names("[::1]:7")
    async with following(names, name) as (found, _):
        await asked_again(names)
        assert found.addresses == {"[::1]:7"}
    assert names.asked[0] == ("::1", 7)


async def test_the_machine_itself_is_found() -> None:
    assert "127.0.0.1:50051" in await discovery.resolve("localhost", 50051)
    assert await discovery.resolve("::1", 50051) == ["[::1]:50051"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1:1", False),
        ("[::1]:1", False),
        ("unix:/run/a", False),
        ("counting-0.counting:1", True),
        ("a:1", True),
    ],
)
def test_what_has_to_be_looked_up_has_a_name(address: str, expected: bool) -> None:
    assert discovery.has_name(address) is expected
