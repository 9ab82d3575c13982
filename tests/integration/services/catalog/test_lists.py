"""Lists: whose entries, in which order, and who sees them."""

import asyncio
from typing import Any

import pytest
import redis.asyncio as valkey

from services.catalog.settings import CatalogSettings, ListSettings, Part, ProjectionSettings
from tally.catalog.v1 import find_pb2, resource_pb2
from tally.client import InUse, InvalidRequest, ListFull, ListsTooLarge
from tally.client.catalog import Catalog
from tests.integration.services.catalog.test_projection import projected, verify
from tests.support.catalog import CA, US, prepare, rule, video
from tests.support.eventually import eventually
from tests.support.stack import OpenService, Stack

USER = resource_pb2.Type(
    suffix="u",
    name="user",
    lists=[
        resource_pb2.ListKind(name="subscriptions"),
        resource_pb2.ListKind(
            name="history", add_again=resource_pb2.ADD_AGAIN_MOVE, limit=3, drop_oldest=True
        ),
        resource_pb2.ListKind(name="picks", limit=2),
    ],
)
SUBSCRIPTIONS = "9002u:subscriptions"


async def prepare_lists(stack: Stack) -> Catalog:
    """A user, and six videos, of which the odd ones are clips."""
    catalog = await prepare(stack.client)
    await catalog.put_type(USER)
    await catalog.put("9002u", b"{}")
    for number in range(1, 7):
        kind = "clips" if number % 2 else "episodes"
        await catalog.put(f"{number}v", video(number, type=kind, views=-number))
    return catalog


async def find_in(
    stack: Stack, key: str, *, min_change: int, viewer: Any = US, **fields: Any
) -> find_pb2.FindResponse:
    """A find within a list."""
    request = find_pb2.FindRequest(viewer=viewer, list=key, min_change=min_change, **fields)
    return await stack.client.catalog.find(request)


async def ids_in(stack: Stack, key: str, **fields: Any) -> list[str]:
    return [each.id for each in (await find_in(stack, key, **fields)).items]


async def test_a_list_is_found_in_its_own_order_or_by_a_sort_and_meets_any_set(alone: Stack) -> None:
    """004-13, 004-14, 004-16: newest or oldest first, mixed types, under rules and filters."""
    catalog = await prepare_lists(alone)
    await catalog.put("50c", b'{"title":"Series"}')
    first = await catalog.add_to_list(SUBSCRIPTIONS, ["3v", "50c"])
    change = (await catalog.add_to_list(SUBSCRIPTIONS, ["1v", "2v"])).change
    assert (first.added_count, list(first.missing_ids)) == (2, [])
    assert await ids_in(alone, SUBSCRIPTIONS, min_change=change) == ["2v", "1v", "50c", "3v"]
    assert await ids_in(alone, SUBSCRIPTIONS, min_change=change, ascending=True) == ["3v", "50c", "1v", "2v"]
    assert await ids_in(alone, SUBSCRIPTIONS, min_change=change, sort="views") == ["1v", "2v", "3v", "50c"]
    clips = [find_pb2.Filter(any=["t:clips"])]
    assert await ids_in(alone, SUBSCRIPTIONS, min_change=change, filters=clips) == ["1v", "3v"]
    without = find_pb2.FindRequest(
        viewer=US,
        filters=[find_pb2.Filter(any=["t:clips"]), find_pb2.Filter(any=[SUBSCRIPTIONS], exclude=True)],
        min_change=change,
    )
    assert [each.id for each in (await catalog.find(without)).items] == ["5v"]
    await catalog.put_rules("1v", [rule(countries=["US"])])
    page = await find_in(alone, SUBSCRIPTIONS, min_change=change, total=True, list_size=True)
    assert [each.id for each in page.items] == ["2v", "50c", "3v"]
    assert (page.total, page.list_size, page.plan.strategy) == (3, 4, "list")  # T004-28
    assert not (await find_in(alone, SUBSCRIPTIONS, min_change=change)).HasField("list_size")
    assert "1v" in await ids_in(alone, SUBSCRIPTIONS, min_change=change, viewer=CA)


async def test_pages_of_a_list_go_on_behind_the_same_place_and_tell_when_what_is_behind_it_changes(
    alone: Stack,
) -> None:
    catalog = await prepare_lists(alone)
    change = (await catalog.add_to_list(SUBSCRIPTIONS, ["1v", "2v", "3v", "4v", "5v"])).change
    page = await find_in(alone, SUBSCRIPTIONS, min_change=change, page_size=2)
    assert ([each.id for each in page.items], page.has_more) == (["5v", "4v"], True)
    change = (await catalog.add_to_list(SUBSCRIPTIONS, ["6v"])).change  # before the place
    rest = await find_in(
        alone, SUBSCRIPTIONS, min_change=change, page_size=2, page_token=page.next_page_token
    )
    assert ([each.id for each in rest.items], rest.order_changed) == (["3v", "2v"], False)
    change = (await catalog.remove_from_list(SUBSCRIPTIONS, ["1v"])).change
    last = await find_in(
        alone, SUBSCRIPTIONS, min_change=change, page_size=2, page_token=rest.next_page_token
    )
    assert ([each.id for each in last.items], last.has_more, last.order_changed) == ([], False, True)


async def test_adding_again_keeps_or_moves_and_a_full_list_refuses_or_drops_its_oldest(alone: Stack) -> None:
    """T004-06, T004-27: scores only grow, the policies are those of the list."""
    catalog = await prepare_lists(alone)
    await catalog.add_to_list(SUBSCRIPTIONS, ["1v", "2v"])
    again = await catalog.add_to_list(SUBSCRIPTIONS, ["1v"])
    assert (again.added_count, again.moved_count) == (0, 0)
    assert await ids_in(alone, SUBSCRIPTIONS, min_change=again.change) == ["2v", "1v"]
    await catalog.add_to_list("9002u:history", ["1v", "2v", "3v"])
    moved = await catalog.add_to_list("9002u:history", ["1v", "4v"])
    assert (moved.added_count, moved.moved_count, moved.dropped_count) == (1, 1, 1)
    page = await find_in(alone, "9002u:history", min_change=moved.change)
    assert [each.id for each in page.items] == ["4v", "1v", "3v"]
    scores = [each.score for each in page.items]
    assert scores == sorted(set(scores), reverse=True)
    await catalog.add_to_list("9002u:picks", ["1v", "2v"])
    with pytest.raises(ListFull, match="may have 2"):
        await catalog.add_to_list("9002u:picks", ["3v"])
    at_once = [catalog.add_to_list(SUBSCRIPTIONS, [f"{number}v"]) for number in range(1, 7)]
    change = max(each.change for each in await asyncio.gather(*at_once))
    assert len((await find_in(alone, SUBSCRIPTIONS, min_change=change, list_size=True)).items) == 6


async def test_more_at_once_than_a_list_may_have_leave_nothing_of_the_first_of_them(alone: Stack) -> None:
    """What a list has in the source it has in Valkey, also where ids never came into it."""
    catalog = await prepare_lists(alone)
    done = await catalog.add_to_list("9002u:history", ["1v", "2v", "3v", "4v", "5v"])
    assert (done.added_count, done.moved_count, done.dropped_count) == (3, 0, 0)
    done = await catalog.add_to_list("9002u:history", ["3v", "1v", "2v", "4v", "6v"])
    assert (done.added_count, done.moved_count, done.dropped_count) == (2, 1, 2)
    await projected(alone)
    assert await verify(alone) == []
    assert await ids_in(alone, "9002u:history", min_change=done.change) == ["6v", "4v", "2v"]


async def test_an_entry_may_come_before_its_resource_and_goes_with_it(alone: Stack) -> None:
    """T004-11, T004-01: it is kept, skipped, told, and shown when the resource arrives."""
    catalog = await prepare_lists(alone)
    added = await catalog.add_to_list("list:featured", ["1v", "99v"])
    assert list(added.missing_ids) == ["99v"]
    page = await find_in(alone, "list:featured", min_change=added.change, total=True, list_size=True)
    assert ([each.id for each in page.items], page.total, page.list_size) == (["1v"], 1, 2)
    change = (await catalog.put("99v", video(99))).version
    assert await ids_in(alone, "list:featured", min_change=change) == ["99v", "1v"]
    assert [each.list for each in (await catalog.memberships("99v")).memberships] == ["list:featured"]
    change = await catalog.delete("99v")
    page = await find_in(alone, "list:featured", min_change=change, list_size=True)
    assert ([each.id for each in page.items], page.list_size) == (["1v"], 1)
    assert (await catalog.memberships("99v")).memberships == []
    await catalog.add_to_list(SUBSCRIPTIONS, ["1v"])
    change = await catalog.delete("9002u")
    assert [each.list for each in (await catalog.memberships("1v")).memberships] == ["list:featured"]
    assert await ids_in(alone, SUBSCRIPTIONS, min_change=change) == []


async def test_a_curated_list_is_replaced_in_its_order(alone: Stack) -> None:
    """004-15."""
    catalog = await prepare_lists(alone)
    await catalog.add_to_list("list:featured", ["6v", "1v"])
    done = await catalog.replace_list("list:featured", ["2v", "1v", "3v"])
    assert (done.added_count, done.removed_count) == (2, 1)
    assert await ids_in(alone, "list:featured", min_change=done.change) == ["2v", "1v", "3v"]
    assert (await catalog.replace_list("list:featured", ["2v", "1v", "3v"])).change == done.change
    done = await catalog.replace_list("list:featured", [])
    assert await ids_in(alone, "list:featured", min_change=done.change) == []


async def test_lists_that_there_cannot_be_are_refused(alone: Stack) -> None:
    catalog = await prepare_lists(alone)
    for key in ("9002u:typo", "1v:subscriptions", "list:", "featured", "9003u:subscriptions"):
        with pytest.raises(InvalidRequest):
            await catalog.add_to_list(key, ["1v"])
    for ids in ([], ["1v", "1v"], ["01v"]):
        with pytest.raises(InvalidRequest, match="ids"):
            await catalog.add_to_list(SUBSCRIPTIONS, ids)
    with pytest.raises(InvalidRequest, match="list"):
        await find_in(alone, "9002u:typo", min_change=0)
    with pytest.raises(InvalidRequest, match="subject"):
        await catalog.put_rules("list:featured", [rule()])
    await catalog.add_to_list(SUBSCRIPTIONS, ["1v"])
    with pytest.raises(InUse, match="subscriptions"):
        await catalog.put_type(resource_pb2.Type(suffix="u", name="user"))
    with pytest.raises(InvalidRequest, match="children"):
        await catalog.put_type(
            resource_pb2.Type(
                suffix="u", name="user", lists=[*USER.lists, resource_pb2.ListKind(name="videos")]
            )
        )


async def test_lists_are_in_valkey_as_in_the_source_and_are_read_from_there(
    alone: Stack, valkey_url: str
) -> None:
    """004-14, 004-40, T004-01: what a delete leaves behind in Valkey is nothing."""
    catalog = await prepare_lists(alone)
    await catalog.add_to_list(SUBSCRIPTIONS, ["1v", "2v"])
    await catalog.replace_list("list:featured", ["3v", "2v", "99v"])
    await projected(alone)
    async with valkey.Redis.from_url(valkey_url) as client:
        assert await client.zrevrange("r:9002u:subscriptions", 0, -1) == [b"2v", b"1v"]
        assert await client.zrevrange("r:list:featured", 0, -1) == [b"3v", b"2v", b"99v"]
        assert await verify(alone) == []
        await client.zadd("r:list:featured", {"98v": 1.0})
        await client.zrem("r:9002u:subscriptions", "1v")
        assert {key for key, _ in await verify(alone)} == {"r:list:featured", "r:9002u:subscriptions"}
        change = await catalog.rebuild_projection()

        async def is_built() -> bool:
            found = await catalog.status()
            return found.projection_state == "complete" and found.projected_change >= change

        await eventually(is_built)
        assert await verify(alone) == []
        await catalog.delete("2v")
        await catalog.delete("9002u")
        await projected(alone)
        assert await client.zrevrange("r:list:featured", 0, -1) == [b"3v", b"99v"]
        assert await client.exists("r:9002u:subscriptions") == 0
        assert await verify(alone) == []


@pytest.mark.parametrize("parts", [("details", "lists"), ("details",)], ids=["Valkey", "Postgres"])
async def test_a_find_whose_lists_have_too_many_entries_together_is_refused(
    open_service: OpenService, parts: tuple[Part, ...]
) -> None:
    settings = CatalogSettings(
        lists=ListSettings(max_read_entries=4), projection=ProjectionSettings(parts=parts)
    )
    async with open_service("catalog", settings) as stack:
        catalog = await prepare_lists(stack)
        await catalog.add_to_list(SUBSCRIPTIONS, ["1v", "2v", "3v"])
        change = (await catalog.add_to_list("9002u:history", ["4v", "5v"])).change
        await projected(stack)
        assert await ids_in(stack, SUBSCRIPTIONS, min_change=change) == ["3v", "2v", "1v"]
        with pytest.raises(ListsTooLarge, match="MAX_READ_ENTRIES"):
            await ids_in(
                stack, SUBSCRIPTIONS, min_change=change, filters=[find_pb2.Filter(any=["9002u:history"])]
            )


async def test_without_lists_in_valkey_they_come_from_postgres_and_the_limit_is_a_setting(
    open_service: OpenService, valkey_url: str
) -> None:
    settings = CatalogSettings(
        lists=ListSettings(max_entries=3), projection=ProjectionSettings(parts=("details",))
    )
    async with open_service("catalog", settings) as stack, valkey.Redis.from_url(valkey_url) as client:
        catalog = await prepare_lists(stack)
        change = (await catalog.add_to_list(SUBSCRIPTIONS, ["1v", "2v", "3v"])).change
        assert await ids_in(stack, SUBSCRIPTIONS, min_change=change) == ["3v", "2v", "1v"]
        await projected(stack)
        assert await client.exists("r:9002u:subscriptions") == 0
        with pytest.raises(ListFull):
            await catalog.add_to_list(SUBSCRIPTIONS, ["4v"])
