"""The data of a find: sets, orders and rights as of one change. A view never changes."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyroaring import BitMap

from services.catalog.ids import is_id, pack
from services.catalog.list_kind import find_kind
from services.catalog.moves import Moves
from services.catalog.order import Order
from services.catalog.resource_type import ResourceType
from services.catalog.rights import Rights


class Ids:
    """The dense ordinals of resources, private to the process. Ids are only added."""

    def __init__(self) -> None:
        self.packed = array("q")
        self._ordinals: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.packed)

    def find(self, packed: int) -> int | None:
        """The ordinal of an id."""
        return self._ordinals.get(packed)

    def give(self, packed: int) -> int:
        """The ordinal of an id, a new one if need be."""
        ordinal = self._ordinals.setdefault(packed, len(self.packed))
        if ordinal == len(self.packed):
            self.packed.append(packed)
        return ordinal


@dataclass(frozen=True, slots=True, repr=False)
class View:
    """One state of the catalog, which one snapshot of Postgres showed."""

    change: int
    types: Mapping[str, ResourceType]
    """by suffix"""
    live: BitMap
    """every resource"""
    sets: Mapping[str, BitMap]
    """by key, without those that are empty"""
    values: Mapping[str, frozenset[str]]
    """the keys of each index that are in `sets`"""
    orders: Mapping[str, Order]
    """by the name of the sort"""
    rights: Rights
    ids: Ids
    versions: Sequence[int]
    """by ordinal; may be newer than the view"""
    moves: Moves
    """how the orders were at earlier changes"""
    incomplete: frozenset[str] = frozenset()
    """indexes, sorts and children that are being reindexed: index:genre, sort:views, children:videos"""

    def find(self, resource_id: str) -> int | None:
        """The ordinal of a resource that is there."""
        ordinal = self.ids.find(pack(resource_id)) if is_id(resource_id) else None
        return ordinal if ordinal is not None and ordinal in self.live else None


def describe_unknown(types: Iterable[ResourceType], key: str, *, may_be_list: bool = False) -> str:
    """Why a key names no set that there can be, or no list either; empty: it does."""
    name, separator, value = key.partition(":")
    if not separator or not value:
        return f"{key!r} must be an index and a value, t:clips, or the children of a resource, 1000c:videos"
    types = list(types)
    if may_be_list and find_kind(types, key) is not None:
        return ""
    indexes = {index for each in types for index in each.indexes}
    if name in indexes:
        return ""
    children = {each.children for each in types if each.children}
    if is_id(name):
        if value in children:
            return ""
        return f"{key!r}: no type has children of that name; there are {_listed(children)}"
    return f"{key!r}: no type has an index of that name; there are {_listed(indexes)}"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
