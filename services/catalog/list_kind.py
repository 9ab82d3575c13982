"""The kinds of lists: those that a type names for its resources, and curated ones. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.catalog.ids import is_id

if TYPE_CHECKING:
    from services.catalog.resource_type import ResourceType

CURATED = "list"
"""The prefix of the keys of curated lists: list:featured."""


@dataclass(frozen=True, slots=True)
class ListKind:
    """How lists of a name behave; see the fields of tally.catalog.v1.ListKind."""

    name: str
    moves: bool = False
    """whether an id that is added again moves to the newest place; else it keeps its own"""
    limit: int = 0
    """entries at most; 0: as many as the setting allows"""
    drops_oldest: bool = False
    """whether the oldest go when there are more; else nothing more is added"""


def owner_of(key: str) -> str | None:
    """The resource that owns the list of a key; None: it is curated."""
    owner = key.partition(":")[0]
    return owner if is_id(owner) else None


def find_kind(types: Iterable["ResourceType"], key: str) -> ListKind | None:
    """How the list of a key behaves; None if there can be no such list."""
    first, _, name = key.partition(":")
    if first == CURATED:
        return ListKind(name) if name else None
    if not is_id(first):
        return None
    kinds = (kind for each in types if each.suffix == first[-1] for kind in each.lists)
    return next((kind for kind in kinds if kind.name == name), None)
