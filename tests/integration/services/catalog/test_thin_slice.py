"""The catalog from a type to a page, on real servers."""

import json
import time
from contextlib import aclosing

import pytest

from tally.catalog.v1 import find_pb2, resource_pb2
from tally.client import ChangeOutOfRange, InUse, InvalidRequest, NotEnabled, NotFound, VersionMismatch
from tests.support.catalog import CA, US, find, find_ids, prepare, rule, video
from tests.support.stack import Stack


async def test_a_find_filters_sorts_pages_and_returns_details_as_they_were_stored(stack: Stack) -> None:
    client, catalog = stack.client, await prepare(stack.client)
    await catalog.put("1000c", b'{"title":"Series"}')
    change = 0
    for number in range(1, 8):
        kind = "clips" if number % 2 else "episodes"
        details = video(number, type=kind, container="1000c", views=number * 10)
        change = (await catalog.put(f"{number}v", details)).version
    page = await find(
        client, "t:clips", "1000c:videos", sort="views", page_size=2, total=True, min_change=change
    )
    assert [item.id for item in page.items] == ["7v", "5v"]
    assert [item.score for item in page.items] == [70.0, 50.0]
    assert page.items[0].details == video(7, type="clips", container="1000c", views=70)
    assert (page.total, page.has_more, page.change) == (4, True, change)
    rest = await find(
        client, "t:clips", "1000c:videos", sort="views", page_size=2, page_token=page.next_page_token,
        details=find_pb2.DETAILS_FORM_ARRAY,
    )  # fmt: skip
    assert [each["title"] for each in json.loads(rest.json)] == ["Video 3", "Video 1"]
    assert (rest.has_more, rest.next_page_token, rest.order_changed) == (False, "", False)


async def test_a_put_that_changes_nothing_keeps_the_version(stack: Stack) -> None:
    catalog = await prepare(stack.client)
    first = await catalog.put("1v", video(1))
    again = await catalog.put("1v", video(1))
    assert (again.version, again.changed) == (first.version, False)
    moved = await catalog.put("1v", video(1), external_id="elsewhere")
    assert moved.changed
    assert moved.version > first.version
    with pytest.raises(VersionMismatch):
        await catalog.put("1v", video(1, type="clips"), expected_version=first.version)
    assert (await catalog.get(external_id="v/elsewhere")).resource.version == moved.version


async def test_an_update_moves_a_resource_between_sets_and_a_delete_takes_it_out_of_all(stack: Stack) -> None:
    client, catalog = stack.client, await prepare(stack.client)
    await catalog.put("1v", video(1, type="clips", genres=[1, 2]))
    change = (await catalog.put("1v", video(1, type="clips", genres=[2, 3]))).version
    assert await find_ids(client, "genre:1", min_change=change) == []
    assert await find_ids(client, "genre:3") == ["1v"]
    change = await catalog.delete("1v")
    assert await find_ids(client, "t:clips", min_change=change) == []
    assert await find_ids(client) == []
    assert await catalog.delete("1v") == 0
    with pytest.raises(NotFound):
        await catalog.get("1v")


async def test_a_container_with_children_is_not_deleted(stack: Stack) -> None:
    catalog = await prepare(stack.client)
    await catalog.put("50c", b'{"title":"Series"}')
    await catalog.put("1v", video(1, container="50c"))
    with pytest.raises(InUse):
        await catalog.delete("50c")
    with pytest.raises(InvalidRequest, match="parent"):
        await catalog.put("2v", video(2, container="51c"))


async def test_a_rule_is_in_force_when_put_rules_returns(stack: Stack) -> None:
    client, catalog = stack.client, await prepare(stack.client)
    await catalog.put("50c", b'{"title":"Series"}')
    await catalog.put("1v", video(1, container="50c"))
    change = (await catalog.put("2v", video(2))).version
    assert await find_ids(client, min_change=change) == ["50c", "2v", "1v"]
    began = time.monotonic()
    answer = await catalog.put_rules("50c", [rule(countries=["US"])])
    assert time.monotonic() - began < 1
    assert (answer.confirmed_replicas, answer.stale_replicas, answer.changed) == (1, 0, True)
    page = await find(client, total=True)
    assert [item.id for item in page.items] == ["2v"]
    assert page.total == 1
    assert await find_ids(client, viewer=CA) == ["50c", "2v", "1v"]
    with pytest.raises(NotFound):
        await catalog.get("1v", viewer=US)
    assert [each.id for each in await catalog.get_many(["1v", "2v"], viewer=US)] == ["2v"]
    again = await catalog.put_rules("50c", [rule(countries=["US"])])
    assert (again.change, again.changed, again.confirmed_replicas) == (answer.change, False, 1)
    await catalog.put_rules("50c", [])
    assert await find_ids(client) == ["50c", "2v", "1v"]


async def test_facets_are_exact_with_and_without_their_own_filter(stack: Stack) -> None:
    client, catalog = stack.client, await prepare(stack.client)
    change = 0
    for number, genres in enumerate([[1], [1, 2], [2], [3]], 1):
        change = (await catalog.put(f"{number}v", video(number, type="clips", genres=genres))).version
    await catalog.put_rules("4v", [rule()])
    page = await find(client, "t:clips", "genre:1", facets=["genre", "~genre"], min_change=change)
    own, free = ({value.value: value.count for value in facet.values} for facet in page.facets)
    assert own == {"1": 2, "2": 1}
    assert free == {"1": 2, "2": 2}


async def test_each_mistake_has_the_path_of_its_field(stack: Stack) -> None:
    client, catalog = stack.client, await prepare(stack.client)

    async def fields(call: object) -> list[str]:
        with pytest.raises(InvalidRequest) as caught:
            await call  # type: ignore[misc]
        return [each.field for each in caught.value.violations]

    assert await fields(catalog.put("01v", video(1))) == ["put.resource.id"]
    assert await fields(catalog.put("1x", video(1))) == ["put.resource.id"]
    assert await fields(catalog.put("1v", b'{"a":1,"a":2}')) == ["put.resource.details"]
    assert await fields(catalog.put("1v", b"{}")) == ["put.resource.details/title"]
    assert await fields(catalog.put("1v", video(1, views="many"))) == ["put.resource.details/views"]
    assert await fields(find(client, "t:clips", "typo:x")) == ["filters[1].any[0]"]
    assert await fields(find(client, sort="typo")) == ["sort"]
    assert await fields(find(client, page_size=501)) == ["page_size"]
    assert await fields(find(client, page_token="typo")) == ["page_token"]  # noqa: S106 - it is no password
    assert await fields(client.catalog.find(find_pb2.FindRequest(viewer=US))) == ["everything"]
    assert await fields(client.catalog.find(find_pb2.FindRequest(everything=True))) == [
        "viewer.country",
        "viewer.application",
        "viewer.platform",
    ]
    assert await fields(catalog.put_rules("1v", [rule(countries=["UK"])])) == ["rules[0].countries"]
    assert await fields(catalog.put_rules("1v", [rule(applications=["49"])])) == ["rules[0].applications"]
    assert await fields(catalog.put_rules("typo:1", [rule()])) == ["subject"]
    with pytest.raises(NotEnabled):
        await find(client, past_holdbacks=True)


async def test_a_page_token_of_another_query_is_refused(stack: Stack) -> None:
    client, catalog = stack.client, await prepare(stack.client)
    for number in (1, 2):
        change = (await catalog.put(f"{number}v", video(number))).version
    page = await find(client, page_size=1, min_change=change)
    with pytest.raises(InvalidRequest, match="another query"):
        await find(client, page_size=1, page_token=page.next_page_token, viewer=CA)


async def test_changes_are_watched_in_order_and_from_any_number(stack: Stack) -> None:
    catalog = await prepare(stack.client)
    await catalog.put("1v", video(1))
    put = (await catalog.put("2v", video(2))).version
    ruled = (await catalog.put_rules("2v", [rule()])).change
    deleted = await catalog.delete("1v")
    seen = []
    async with aclosing(catalog.watch(put - 1, timeout=20)) as changes:
        async for each in changes:
            seen.append((each.change, resource_pb2.ChangeKind.Name(each.kind), each.subject))
            if each.change == deleted:
                break
    assert seen == [
        (put, "CHANGE_KIND_RESOURCE_PUT", "2v"),
        (ruled, "CHANGE_KIND_RULES", "2v"),
        (deleted, "CHANGE_KIND_RESOURCE_DELETED", "1v"),
    ]


async def test_a_change_that_was_never_drawn_is_out_of_range(stack: Stack) -> None:
    catalog = await prepare(stack.client)
    change = (await catalog.put("1v", video(1))).version
    for wrong in (change + 1, change - (1 << 40)):
        with pytest.raises(ChangeOutOfRange):
            await find(stack.client, min_change=wrong)
        with pytest.raises(ChangeOutOfRange):
            async with aclosing(catalog.watch(wrong, timeout=20)) as changes:
                await anext(changes)
