"""Deletes, and what becomes of children."""

import asyncpg
import pytest

from services.catalog.deletion import Children, delete_resource
from services.catalog.writing import Writing
from tally.client import InUse, InvalidRequest, NotFound, VersionMismatch
from tests.support.catalog import find, find_ids, prepare, rule, video
from tests.support.stack import Stack


async def test_children_that_are_detached_stay_and_leave_the_set_and_the_rules_of_their_parent(
    alone: Stack,
) -> None:
    """T004-26."""
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series"}')
    for number in (1, 2, 3):
        stored = await catalog.put(f"{number}v", video(number, container="50c", type="clips"))
    await catalog.put_rules("50c", [rule()])
    with pytest.raises(InUse, match="detach"):
        await catalog.delete("50c")
    change = await catalog.delete("50c", children="detach")
    assert await find_ids(client, "t:clips", min_change=change) == ["3v", "2v", "1v"]
    assert await find_ids(client, "50c:videos") == []
    got = await catalog.get("3v")
    assert (got.parent, list(got.keys)) == ("", ["t:clips"])
    assert got.resource.version > stored.version
    # The details still name the parent, so the same put is another one now.
    with pytest.raises(InvalidRequest, match="Store the parent first"):
        await catalog.put("3v", video(3, container="50c", type="clips"))


async def test_children_that_are_deleted_go_with_all_below_them_in_pieces(dsn: str, alone: Stack) -> None:
    """T004-26, T004-01: a delete that was cut off after some pieces is gone on with by sending it again."""
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series"}')
    await catalog.put("51c", b'{"title":"Another"}')
    for number in range(1, 8):
        await catalog.put(f"{number}v", video(number, container="50c" if number < 7 else "51c"))
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    writing = Writing(pool, 0.0)
    try:
        version = (await catalog.get("50c")).resource.version
        with pytest.raises(VersionMismatch):
            await catalog.delete("50c", children="delete", expected_version=version + 1)
        deleted = await delete_resource(writing, "50c", version, Children.DELETE, piece=4)
        changes = await pool.fetch(
            "select change, count(*) from catalog.change where kind = 'deleted' group by 1 order by 1"
        )
        assert [row["count"] for row in changes] == [4, 2, 1]
        assert (deleted.change, deleted.children) == (changes[-1]["change"], 6)
        assert await delete_resource(writing, "50c", None, Children.DELETE) is not None
    finally:
        await writing.close()
        await pool.close()
    page = await find(client, total=True, min_change=deleted.change)
    assert [each.id for each in page.items] == ["51c", "7v"]
    assert page.total == 2
    with pytest.raises(NotFound):
        await catalog.get("1v")
    assert await catalog.delete("50c", children="delete") == 0


async def test_a_deep_tree_goes_from_its_leaves(dsn: str) -> None:
    """T004-26: at no instant is there a child without its parent."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    writing = Writing(pool, 0.0)
    try:
        await pool.execute(
            """with layout as (insert into catalog.layout (definition) values ('') returning layout)
            insert into catalog.type (suffix, name, definition, layout)
            select 'c', 'container', '', layout from layout"""
        )
        await pool.execute(
            """insert into catalog.resource (id, suffix, details, parent, keys, scores, fingerprint, layout)
            select n || 'c', 'c', '{}', case when n > 1 then n / 2 || 'c' end, '{}', '{}', '', 1
            from generate_series(1, 127) as n"""
        )
        deleted = await delete_resource(writing, "2c", None, Children.DELETE, piece=10)
        assert deleted.children == 62
        assert await pool.fetchval("select count(*) from catalog.resource") == 64
        assert await pool.fetchval("select count(*) from catalog.resource where id = '3c'") == 1
    finally:
        await writing.close()
        await pool.close()
