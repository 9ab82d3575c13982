"""The validated request of a find. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from services.catalog.order import Place
from services.catalog.rule import Viewer

MAX_FILTERS = 16
MAX_VALUES = 64
MAX_PAGE = 500
DEFAULT_PAGE = 20
MAX_FACETS = 16


@dataclass(frozen=True, slots=True)
class Filter:
    """Sets combined by OR; taken away if `exclude`."""

    keys: tuple[str, ...]
    exclude: bool = False


BY_LIST = ""
"""The sort that is the order of the list that is found in."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is to be found, without the place of the page."""

    viewer: Viewer
    filters: tuple[Filter, ...]
    sort: str
    ascending: bool = False
    at_us: int | None = None
    """another time than now"""
    past_holdbacks: bool = False
    list: str = ""
    """only what is in this list, and in its order if there is no sort"""

    @property
    def fingerprint(self) -> int:
        """A fingerprint of everything that must be equal for a page token."""
        return xxhash.xxh3_64_intdigest(repr(self).encode())


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page begins: behind this place, in the order as it was at a change."""

    version: int
    place: Place


@dataclass(frozen=True, slots=True)
class Page:
    """What is wanted of a query."""

    size: int = DEFAULT_PAGE
    after: Cursor | None = None
    wants_total: bool = False
    wants_list_size: bool = False
    facets: Sequence[str] = ()

    @property
    def counts(self) -> bool:
        """Whether resources are counted that are not on the page."""
        return self.wants_total or bool(self.facets)
