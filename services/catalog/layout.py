"""Layouts: types as they were when rows were indexed. A layout never changes, and names the scores of its rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.catalog.ids import is_id
from services.catalog.moves import Scores
from services.catalog.resource_type import ResourceType
from services.catalog.type_wire import type_of_message
from tally.catalog.v1 import resource_pb2 as pb

_ADD = "insert into catalog.layout (definition) values ($1) returning layout"
_READ = "select layout, definition from catalog.layout"

Layouts = Mapping[int, Sequence[str]]
"""The names of the sorts of each layout."""


async def add_layout(connection: Any, definition: bytes) -> int:
    """The number of a new layout."""
    layout: int = await connection.fetchval(_ADD, definition)
    return layout


async def read_layouts(connection: Any) -> Layouts:
    """Every layout, over an asyncpg connection or pool."""
    return {
        row["layout"]: type_of_message(pb.Type.FromString(row["definition"])).sort_names
        for row in await connection.fetch(_READ)
    }


def name_scores(layouts: Layouts, layout: int, scores: Sequence[float | None]) -> Scores:
    """The scores of a row by the names of their sorts, without those that it lacks."""
    return {name: score for name, score in zip(layouts[layout], scores, strict=True) if score is not None}


def changed_names(old: ResourceType, new: ResourceType) -> set[str]:
    """What is not complete until the resources of a type that changed are reindexed, as `reindexing` has it."""
    indexes = old.indexes.items() ^ new.indexes.items()
    names = {f"index:{name}" for name, _ in indexes}
    names |= {f"sort:{name}" for name in set(old.sort_names) ^ set(new.sort_names)}
    if (old.parent, old.children) != (new.parent, new.children):
        names |= {f"children:{name}" for name in (old.children, new.children) if name}
    return names


def name_of_set(key: str) -> str:
    """What a set is of, as `changed_names` names it: index:t of t:clips, children:videos of 1000c:videos."""
    name, _, word = key.partition(":")
    return f"children:{word}" if is_id(name) else f"index:{name}"


def left_names(old: ResourceType, new: ResourceType) -> set[str]:
    """The first parts of the sets that resources may leave by a change of their type, and the words of children."""
    names = {name for name, pointer in old.indexes.items() if new.indexes.get(name) != pointer}
    if old.children and (old.parent, old.children) != (new.parent, new.children):
        names.add(old.children)
    return names
