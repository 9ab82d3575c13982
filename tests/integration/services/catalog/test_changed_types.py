"""Types that change while there are resources: these are indexed anew, in pieces."""

import asyncio
from typing import Any

import asyncpg
import pytest

from services.catalog.reindexing import reindex_piece
from services.catalog.resource_type import ResourceType
from services.catalog.type_record import put_type
from services.catalog.writing import Writing
from tally.catalog.v1 import find_pb2, resource_pb2, rights_pb2
from tally.client import IndexIncomplete, InUse
from tests.support.catalog import CONTAINER, US, VIDEO, find, find_ids, prepare, rule, video
from tests.support.eventually import eventually
from tests.support.stack import Stack

_IS_WAITING = """
select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"""


def changed(**fields: Any) -> resource_pb2.Type:
    """The type of videos, otherwise."""
    new = resource_pb2.Type()
    new.CopyFrom(VIDEO)
    for name in fields:
        new.ClearField(name)
    new.MergeFrom(resource_pb2.Type(**fields))
    return new


def nested_container() -> resource_pb2.Type:
    """The type of containers, which can be in others."""
    new = resource_pb2.Type()
    new.CopyFrom(CONTAINER)
    new.MergeFrom(resource_pb2.Type(parent="/in", children="series"))
    return new


async def until_indexed(stack: Stack) -> resource_pb2.GetCatalogStatusResponse:
    """Wait until nothing is being indexed anew, and this replica has all of it."""
    found = resource_pb2.GetCatalogStatusResponse()

    async def is_done() -> bool:
        nonlocal found
        found = await stack.client.catalog.status()
        return not found.reindexing and found.applied_change == found.last_change

    await eventually(is_done)
    return found


async def test_resources_are_found_by_what_their_type_says_now(alone: Stack) -> None:
    client, catalog = alone.client, await prepare(alone.client)
    for number in range(1, 6):
        details = video(number, genres=[number % 2], language="en" if number < 3 else "fr", stars=number % 3)
        stored = await catalog.put(f"{number}v", details)
    new = changed(indexes={"t": "/type", "language": "/language"}, sorts=["/views", "/stars"])
    await catalog.put_type(new)
    await until_indexed(alone)
    assert await find_ids(client, "language:fr", sort="stars") == ["5v", "4v", "3v"]
    page = await find(client, facets=["language"], total=True, sort="stars", ascending=True)
    assert [each.id for each in page.items] == ["3v", "1v", "4v", "2v", "5v"]
    assert {value.value: value.count for value in page.facets[0].values} == {"fr": 3, "en": 2}
    got = await catalog.get("5v")
    assert list(got.keys) == ["language:fr"]
    assert got.resource.version == stored.version  # the same is stored, only indexed otherwise
    assert not (await catalog.put("5v", details)).changed


async def test_what_is_being_indexed_anew_is_refused_by_name_until_it_is_complete(alone: Stack) -> None:
    """Exact or not at all: a page of half an index would look like all of it."""
    client, catalog = alone.client, await prepare(alone.client)
    change = (await catalog.put("1v", video(1, language="en", views=7))).version
    holder = await asyncpg.connect(alone.dsn)
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("select from catalog.resource where id = '1v' for update")
        change = await catalog.put_type(changed(indexes={"t": "/type", "language": "/language"}))
        assert await find_ids(client, sort="views", min_change=change) == ["1v"]
        for request in (
            find_pb2.FindRequest(viewer=US, filters=[find_pb2.Filter(any=["language:en"])]),
            find_pb2.FindRequest(viewer=US, everything=True, facets=["~language"]),
        ):
            with pytest.raises(IndexIncomplete, match="indexed anew"):
                await catalog.find(request)
        await transaction.rollback()
    finally:
        await holder.close()
    await until_indexed(alone)
    assert await find_ids(client, "language:en") == ["1v"]


async def test_rules_about_a_set_that_is_not_complete_are_refused_until_it_is(alone: Stack) -> None:
    """They would be told to be in force, and what has not entered the set yet would be shown."""
    trial = rights_pb2.SubjectRules(subject="rating:18", rules=[rule()])
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("1v", video(1, type="clips", rating=18))
    await catalog.put("2v", video(2, type="clips", rating=1.8))
    holder = await asyncpg.connect(alone.dsn)
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("select from catalog.resource where id = '1v' for update")
        change = await catalog.put_type(changed(indexes={"t": "/type", "rating": "/rating"}))
        assert await find_ids(client, min_change=change) == ["2v", "1v"]
        with pytest.raises(IndexIncomplete, match="indexed anew"):
            await catalog.put_rules("rating:18", [rule()])
        with pytest.raises(IndexIncomplete, match="indexed anew"):
            await catalog.try_rules([trial])
        await catalog.put_rules("rating:18", [])
        await transaction.rollback()
    finally:
        await holder.close()
    assert (await until_indexed(alone)).misfit_count == 1
    with pytest.raises(IndexIncomplete, match="do not fit"):
        await catalog.put_rules("rating:18", [rule()])
    with pytest.raises(IndexIncomplete, match="do not fit"):
        await catalog.try_rules([trial])
    await catalog.put_rules("t:episodes", [rule()])  # what did not change is complete
    await catalog.put("2v", video(2, type="clips", rating=18))
    await catalog.put_rules("rating:18", [rule()])
    assert await find_ids(client) == []


async def test_a_resource_that_does_not_fit_keeps_its_sets_and_is_listed(alone: Stack) -> None:
    """It must not leave a set by which it is hidden."""
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("1v", video(1, type="clips", stars="many", views=1))
    await catalog.put("2v", video(2, type="clips", stars=2, views=2))
    await catalog.put_rules("t:clips", [rule()])
    await catalog.put_type(changed(sorts=["/views", "/stars"], parent="/series", children="videos"))
    found = await until_indexed(alone)
    assert [(each.id, each.problem) for each in found.misfits] == [
        ("1v", "details/stars must be a number, or a time with its zone: 2017-09-20T12:30:00Z")
    ]
    assert await find_ids(client) == []
    await catalog.put_rules("t:clips", [])
    assert await find_ids(client, "t:clips", sort="views") == ["2v", "1v"]
    await catalog.put("1v", video(1, type="clips", stars=1))
    assert (await until_indexed(alone)).misfit_count == 0


async def test_a_set_with_rules_is_not_given_up_by_its_type(alone: Stack) -> None:
    catalog = await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series"}')
    await catalog.put("1v", video(1, type="clips", container="50c"))
    await catalog.put_rules("t:clips", [rule()])
    await catalog.put_rules("50c:videos", [rule()])
    for new in (changed(indexes={"t": "/kind"}), changed(parent="/series")):
        with pytest.raises(InUse, match="rules are about"):
            await catalog.put_type(new)
    await catalog.put_rules("50c:videos", [])
    await catalog.put_type(changed(parent="/series"))


async def test_a_type_does_not_take_its_resources_from_below_a_parent_with_rules(alone: Stack) -> None:
    """Rules of a parent, of all above it, and of their sets, hold for what is below."""
    catalog = await prepare(alone.client)
    await catalog.put_type(nested_container())
    await catalog.put("50c", b'{"title":"Network","type":"paid"}')
    await catalog.put("51c", b'{"title":"Series","in":"50c"}')
    await catalog.put("1v", video(1, container="51c"))
    new = changed(parent="/series")
    for subject in ("51c", "50c", "t:paid"):
        await catalog.put_rules(subject, [rule()])
        with pytest.raises(InUse, match=f"rules are about {subject}"):
            await catalog.put_type(new)
        await catalog.put_rules(subject, [])
    await catalog.put_rules("1v", [rule()])  # it goes with the video
    await catalog.put_type(new)


async def test_rules_of_a_parent_wait_while_a_type_looks_for_rules_of_parents(alone: Stack) -> None:
    """Else the type would not see them, and take its resources from below them."""
    catalog = await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series"}')
    holder = await asyncpg.connect(alone.dsn)
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("select from catalog.type where suffix = 'v' for update")
        putting = asyncio.create_task(catalog.put_rules("50c", [rule()]))

        async def is_waiting() -> bool:
            return bool(await holder.fetchval(_IS_WAITING))

        await eventually(is_waiting)
        await transaction.rollback()
        await putting
    finally:
        await holder.close()


async def test_a_rule_of_a_parent_reaches_a_child_under_a_former_name_of_children(alone: Stack) -> None:
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series"}')
    await catalog.put("1v", video(1, container="50c", stars="many"))
    await catalog.put_type(changed(children="clips", sorts=["/views", "/stars"]))
    assert (await until_indexed(alone)).misfit_count == 1
    assert list((await catalog.get("1v")).keys) == ["50c:videos"]
    await catalog.put_rules("50c", [rule()])
    assert await find_ids(client) == []


async def test_an_index_that_is_given_up_can_be_named_no_more_and_another_type_keeps_it(alone: Stack) -> None:
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series","type":"clips"}')
    await catalog.put("1v", video(1, type="clips"))
    await catalog.put_type(changed(indexes={"genre": "/genres/*"}))
    await until_indexed(alone)
    assert await find_ids(client, "t:clips") == ["50c"]
    assert list((await catalog.get("1v")).keys) == []


async def test_pieces_go_on_where_another_stopped_and_leave_out_what_was_put_meanwhile(dsn: str) -> None:
    """Each piece is a transaction: whoever does the next one, nothing is left out or indexed by two."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=3)
    writing = Writing(pool, 0.0)
    try:
        old = ResourceType("v", "video", parent="/in", children="parts")
        await put_type(writing, old)
        await pool.execute(
            """insert into catalog.resource (id, suffix, details, parent, keys, scores, fingerprint, layout)
            select n || 'v', 'v', convert_to(format('{"next":"%sv"}', n % 7 + 1), 'UTF8'), null, '{}', '{}', '',
                (select layout from catalog.type) from generate_series(1, 7) as n"""
        )
        # Each below the next, and the last below the first: one of them cannot be.
        await put_type(writing, ResourceType("v", "video", parent="/next", children="parts"))
        await pool.execute(
            "update catalog.resource set layout = (select layout from catalog.type) where id = '3v'"
        )
        pieces = 0
        while await reindex_piece(writing, pool, 3):
            pieces += 1
        rows = await pool.fetch("select id, parent, layout from catalog.resource order by id")
        parents = {row["id"]: row["parent"] for row in rows}
        assert parents == {"1v": "2v", "2v": "3v", "3v": None, "4v": "5v", "5v": "6v", "6v": "7v", "7v": "1v"}
        assert await pool.fetchval("select count(*) from catalog.reindexing") == 0
        kinds = await pool.fetch("select kind from catalog.change order by change, subject")
        assert [row["kind"] for row in kinds].count("put") == 6
        # Now 3v, too, is to be below the next: a circle.
        await put_type(writing, ResourceType("v", "video", parent="/next", children="others"))
        while await reindex_piece(writing, pool, 3):
            pieces += 1
        misfits = await pool.fetch("select id, problem from catalog.misfit")
        assert [row["id"] for row in misfits] == ["3v"]
        assert "circle" in misfits[0]["problem"]
    finally:
        await writing.close()
        await pool.close()


async def test_a_type_whose_sorts_only_change_their_order_is_indexed_anew_to_the_end(alone: Stack) -> None:
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("1v", video(1, views=7))
    await catalog.put("2v", video(2, views=3))
    change = await catalog.put_type(changed(sorts=["/created_at", "/views"]))
    assert await find_ids(client, sort="views", min_change=change) == ["1v", "2v"]
    await until_indexed(alone)
    assert await find_ids(client, sort="views") == ["1v", "2v"]
    assert not (await catalog.put("1v", video(1, views=7))).changed


async def test_a_type_that_only_asks_for_more_indexes_nothing_anew(alone: Stack) -> None:
    catalog = await prepare(alone.client)
    await catalog.put("1v", video(1))
    new = changed(required=["/title", "/language"])
    answer = await catalog.put_type(new)
    assert (await catalog.status()).reindexing == []
    assert await catalog.put_type(new) == answer
    assert (await catalog.put_type(CONTAINER)) < answer
