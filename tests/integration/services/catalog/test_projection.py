"""The projection in Valkey: the source's keys, complete or not believed."""

import asyncio

import redis.asyncio as valkey

from services.catalog.settings import CatalogSettings, Part, ProjectionSettings
from tests.support.catalog import find, prepare, rule, video
from tests.support.eventually import eventually
from tests.support.stack import OpenService, Stack


async def verify(stack: Stack) -> list[tuple[str, str]]:
    """Everything that is wrong with the projection."""
    problems: list[tuple[str, str]] = []
    cursor = ""
    while True:
        found = await stack.client.catalog.verify_projection(cursor)
        problems += [(each.key, each.description) for each in found.problems]
        cursor = found.next_cursor
        if not cursor:
            return sorted(set(problems))


async def projected(stack: Stack) -> None:
    """Wait until Valkey has all that is stored."""

    async def is_complete() -> bool:
        found = await stack.client.catalog.status()
        return found.projection_state == "complete" and found.projected_change == found.last_change

    await eventually(is_complete)


async def test_the_keys_are_those_of_the_source(stack: Stack, valkey_url: str) -> None:
    """004-40, 004-18."""
    catalog = await prepare(stack.client)
    await catalog.put("1000c", b'{"title":"Series"}')
    details = video(38, container="1000c", type="clips", genres=[2], views=7)
    version = (await catalog.put("38v", details)).version
    await projected(stack)
    async with valkey.Redis.from_url(valkey_url) as client:
        assert await client.hgetall("r:38v") == {
            b"details": details,
            b"version": str(version).encode(),
            b"views": b"7.0",
        }
        assert await client.sinter(["r:1000c:videos", "r:x:t:clips"]) == {b"38v"}
        assert await client.smembers("r:i:38v") == {
            b"r:1000c:videos",
            b"r:x:t:clips",
            b"r:x:genre:2",
            b"s:views",
        }
        assert await client.zscore("s:views", "38v") == 7.0
        assert await client.ttl("r:38v") == -1
        await catalog.put("38v", video(38, type="episodes"))
        await projected(stack)
        assert await client.exists("r:x:t:clips", "r:1000c:videos", "s:views") == 0
        assert await client.smembers("r:x:t:episodes") == {b"38v"}
        await catalog.delete("38v")
        await projected(stack)
        assert await client.keys("*38v*") == []
        assert await client.exists("r:x:t:episodes") == 0


async def test_a_wiped_valkey_is_built_anew_and_is_believed_in_nothing_meanwhile(
    stack: Stack, valkey_url: str
) -> None:
    """T004-16, T004-17: finds go on, rules go on, and what is left of another time goes."""
    catalog = await prepare(stack.client)
    for number in (1, 2, 3):
        await catalog.put(f"{number}v", video(number))
    await catalog.put_rules("2v", [rule()])
    await projected(stack)
    async with valkey.Redis.from_url(valkey_url) as client:
        await client.flushall()
        # What somebody else left, without a token: details that are wrong, and a resource that there is not.
        await client.hset("r:1v", mapping={"details": b'{"title":"wrong"}', "version": 1 << 60})
        await client.hset("r:99v", mapping={"details": b"{}", "version": 1})
        page = await find(stack.client)  # the first, so nothing is in the process's own cache
        assert [item.details for item in page.items] == [video(3), video(1)]

        async def is_built() -> bool:
            return await client.hget("r:1v", "details") == video(1) and not await client.exists("r:99v")

        await eventually(is_built)
        await projected(stack)


async def test_the_projection_of_another_cluster_is_left_alone(
    open_service: OpenService, valkey_url: str
) -> None:
    async with valkey.Redis.from_url(valkey_url) as client:
        await client.set("catalog:token", "another:1:1")
        await client.hset("r:1v", mapping={"details": b"{}", "version": 1 << 60})
        async with open_service("catalog") as stack:
            catalog = await prepare(stack.client)
            change = (await catalog.put("1v", video(1))).version
            assert (await find(stack.client, min_change=change)).items[0].details == video(1)

            async def is_left_alone() -> bool:
                return "another cluster" in (await catalog.status()).projection_state

            await eventually(is_left_alone)
            assert await client.hget("r:1v", "details") == b"{}"


async def test_what_was_damaged_in_valkey_is_found_and_mended_by_building_it_anew(
    alone: Stack, valkey_url: str
) -> None:
    """T004-01, T004-44: nothing is believed to be right because it is there."""
    catalog = await prepare(alone.client)
    for number in range(1, 5):
        await catalog.put(f"{number}v", video(number, type="clips", views=number))
    await projected(alone)
    assert await verify(alone) == []
    async with valkey.Redis.from_url(valkey_url) as client:
        await client.hset("r:1v", "details", b"{}")
        await client.srem("r:x:t:clips", "2v")
        await client.sadd("r:x:t:clips", "99v")
        await client.zadd("s:views", {"3v": 9.0, "98v": 1.0})
        await client.delete("r:i:4v")
        await client.hset("r:97v", "details", b"{}")
        await client.sadd("r:x:genre:2", "1v")
        assert [key for key, _ in await verify(alone)] == [
            "r:1v", "r:97v", "r:i:4v", "r:x:genre:2", "r:x:t:clips", "r:x:t:clips", "s:views", "s:views",
        ]  # fmt: skip
        change = await catalog.rebuild_projection()

        async def is_mended() -> bool:
            found = await catalog.status()
            return (
                found.projection_state == "complete"
                and found.projected_change >= change
                and await client.hget("r:1v", "details") == video(1, type="clips", views=1)
            )

        await eventually(is_mended)
        assert await verify(alone) == []
        assert await client.exists("r:97v", "r:x:genre:2") == 0


async def test_comparing_while_others_write_finds_nothing_wrong(alone: Stack) -> None:
    catalog = await prepare(alone.client)
    for number in range(1, 31):
        await catalog.put(f"{number}v", video(number, type="clips", views=0))
    await projected(alone)

    async def write() -> None:
        for turn in range(1, 3):
            for number in range(1, 31, 2):
                await catalog.put(f"{number}v", video(number, type=f"t{turn % 3}", views=turn))

    writing = asyncio.ensure_future(write())
    while not writing.done():
        assert await verify(alone) == []
    await writing


async def test_only_what_the_setting_names_is_projected_and_a_change_of_it_builds_anew(
    open_service: OpenService, valkey_url: str
) -> None:
    async with valkey.Redis.from_url(valkey_url) as client:
        cases: list[tuple[tuple[Part, ...], set[bytes]]] = [
            (("details",), {b"r:1v", b"catalog:token", b"catalog:position"}),
            (("sets",), {b"r:i:1v", b"r:x:t:clips", b"s:views", b"catalog:token", b"catalog:position"}),
        ]
        for parts, expected in cases:
            settings = CatalogSettings(projection=ProjectionSettings(parts=parts))
            async with open_service("catalog", settings) as stack:
                catalog = await prepare(stack.client)
                version = (await catalog.put("1v", video(1, type="clips", views=1))).version
                await projected(stack)

                async def is_so(expected: set[bytes] = expected) -> bool:
                    return set(await client.keys()) == expected

                await eventually(is_so)
                page = await find(stack.client, min_change=version)
                assert page.items[0].details == video(1, type="clips", views=1)
                assert await verify(stack) == []
