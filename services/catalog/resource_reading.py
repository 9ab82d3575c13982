"""Reads of resources from the record."""

from collections.abc import Sequence
from typing import Any

from services.catalog.index import Row
from services.catalog.layout import Layouts, name_scores

_COLUMNS = """id, external_id, details, version, keys, parent, created_at, updated_at"""
_READ = f"select {_COLUMNS} from catalog.resource where id = any($1::text[])"
_READ_BY_EXTERNAL_ID = f"select {_COLUMNS} from catalog.resource where suffix = $1 and external_id = $2"
_READ_DETAILS = "select id, details, version from catalog.resource where id = any($1::text[])"
_ROW = "id, parent, keys, layout, scores, version"
_READ_ROWS = f"select {_ROW} from catalog.resource where id = any($1::text[])"
_READ_ALL_ROWS = f"select {_ROW} from catalog.resource where id > $1 order by id limit $2"
_PROJECTED = "id, keys, layout, scores, version, details"
_READ_PROJECTED = f"select {_PROJECTED} from catalog.resource where id = any($1::text[])"
_READ_ALL_PROJECTED = f"select {_PROJECTED} from catalog.resource where id > $1 order by id limit $2"


async def read_resources(connection: Any, ids: Sequence[str]) -> dict[str, Any]:
    """Rows of all there is to tell, by id, over an asyncpg connection or pool."""
    return {row["id"]: row for row in await connection.fetch(_READ, list(ids))}


async def read_by_external_id(connection: Any, suffix: str, external_id: str) -> Any:
    """The row of a resource by its name elsewhere; None if there is none."""
    return await connection.fetchrow(_READ_BY_EXTERNAL_ID, suffix, external_id)


async def read_details(connection: Any, ids: Sequence[str]) -> dict[str, tuple[bytes, int]]:
    """Details and versions, by id."""
    rows = await connection.fetch(_READ_DETAILS, list(ids))
    return {row["id"]: (row["details"], row["version"]) for row in rows}


async def read_rows(connection: Any, ids: Sequence[str], layouts: Layouts) -> dict[str, Row]:
    """What a view needs of these resources, by id; those that are gone are left out."""
    rows = await connection.fetch(_READ_ROWS, list(ids))
    return {row["id"]: _row_of(row, layouts) for row in rows}


async def read_all_rows(connection: Any, after: str, limit: int, layouts: Layouts) -> list[Row]:
    """What a view needs of the resources behind an id, in the order of ids."""
    return [_row_of(row, layouts) for row in await connection.fetch(_READ_ALL_ROWS, after, limit)]


async def read_projected(connection: Any, ids: Sequence[str]) -> dict[str, Any]:
    """What the projection has of these resources, by id."""
    return {row["id"]: row for row in await connection.fetch(_READ_PROJECTED, list(ids))}


async def read_all_projected(connection: Any, after: str, limit: int) -> list[Any]:
    """What the projection has of the resources behind an id."""
    rows: list[Any] = await connection.fetch(_READ_ALL_PROJECTED, after, limit)
    return rows


def _row_of(row: Any, layouts: Layouts) -> Row:
    resource_id, parent, keys, layout, scores, version = row
    return Row(resource_id, parent, keys, name_scores(layouts, layout, scores), version)
