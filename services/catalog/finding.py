"""Finding on one view: sets, rights, order, page, total and facets. No I/O, nothing awaited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.catalog.layout import name_of_set
from services.catalog.list_kind import find_kind
from services.catalog.list_order import sort_list
from services.catalog.moves import Scores
from services.catalog.order import BY_ID, MISSING, Order, Place
from services.catalog.query import BY_LIST, Filter, Page, Query
from services.catalog.view import View, describe_unknown
from tally.contract.errors import IndexIncomplete, InvalidRequest, Violation

MAX_FACET_VALUES = 1_000
_NONE = BitMap()

Lists = Mapping[str, Mapping[int, int]]
"""The entries of lists by key: the score of each packed id."""
Window = tuple[int, int]
"""The first and the last instant for which rights must hold, in µs since 1970-01-01 UTC."""


@dataclass(frozen=True, slots=True)
class FacetCounts:
    """Values of an index with how many matches have them, most frequent first."""

    name: str
    counts: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Found:
    """A page of ordinals, in their order."""

    ordinals: Sequence[int]
    places: Sequence[Place]
    following: int | None
    """the first that comes behind the page"""
    order_changed: bool
    total: int | None
    facets: Sequence[FacetCounts]
    strategy: str
    steps: int
    version: int | None = None
    """of the order, if it is that of a list"""
    list_size: int | None = None

    @property
    def has_more(self) -> bool:
        """Whether anything comes behind the page."""
        return self.following is not None


def check_query(view: View, query: Query, facets: Sequence[str]) -> None:
    """Raises InvalidRequest for names that this view does not have."""
    wrong = [
        Violation(f"filters[{index}].any[{place}]", problem)
        for index, each in enumerate(query.filters)
        for place, key in enumerate(each.keys)
        if (problem := describe_unknown(view.types.values(), key, may_be_list=True))
    ]
    if query.list and find_kind(view.types.values(), query.list) is None:
        wrong.append(Violation("list", f"{query.list!r} is no list that there can be: no type names it"))
    if query.sort not in view.orders and not (query.list and query.sort == BY_LIST):
        known = ", ".join(sorted(view.orders))
        wrong.append(Violation("sort", f"{query.sort!r} is no sort of any type; there are {known}"))
    indexes = {name for each in view.types.values() for name in each.indexes}
    for index, name in enumerate(facets):
        if name.removeprefix("~") not in indexes:
            wrong.append(Violation(f"facets[{index}]", f"{name!r} is no index of any type"))
    if wrong:
        raise InvalidRequest(wrong)
    _check_complete(view, query, facets)


def _check_complete(view: View, query: Query, facets: Sequence[str]) -> None:
    if not view.incomplete:
        return
    keys = [key for each in query.filters for key in each.keys]
    names = {f"sort:{query.sort}", *(f"index:{name.removeprefix('~')}" for name in facets)}
    names.update(map(name_of_set, keys))
    if found := sorted(names & view.incomplete):
        raise IndexIncomplete(
            f"{', '.join(found)}: not complete yet, as a type was changed and its resources are being indexed anew; "
            "ask again later (`tally catalog status` shows how far it is)"
        )


def find_lists(view: View, query: Query) -> list[str]:
    """The keys of the lists that a query names."""
    keys = {key for each in query.filters for key in each.keys} | ({query.list} if query.list else set())
    return sorted(key for key in keys if find_kind(view.types.values(), key) is not None)


def find(
    view: View, query: Query, page: Page, window: Window, max_steps: int, lists: Lists | None = None
) -> Found:
    """A page. The choice of the strategy never changes the answer. `lists`: those that the query names."""
    lists = lists or {}
    matches = match(view, query.filters, lists)
    if query.list:
        matches = matches & _ordinals_of(
            view, lists[query.list]
        )  # not in place: it may be the view's own set
    visible = keep_visible(view, query, matches, window)
    if query.sort == BY_LIST:
        return _find_in_order_of_list(view, query, page, window, visible, lists)
    order = view.orders[query.sort]
    start = _start(order, query, page)
    moved = {} if page.after is None else view.moves.since(page.after.version)
    order_changed = moved is None or (page.after is not None and page.after.version > view.change)
    settled = visible - BitMap(moved) if moved else visible
    # The walk finds one match in `len(order) / len(visible)` steps, if the matches are spread evenly.
    wanted = page.size + 1
    steps = 0
    chosen: list[int] | None = None
    if settled and wanted * len(order) <= max_steps * len(settled):
        chosen, steps = _walk(order, settled, start, wanted, query.ascending, max_steps)
    strategy = "select" if chosen is None else "walk"
    if chosen is None:
        chosen = _select(order, settled, start, wanted, query.ascending)
    places = [(order.place_of(ordinal), ordinal) for ordinal in chosen]
    if moved:
        places += _old_places(view, query, page, visible, moved)
        places.sort(reverse=not query.ascending)
    return Found(
        [ordinal for _, ordinal in places[: page.size]],
        [place for place, _ in places[: page.size]],
        places[page.size][1] if len(places) > page.size else None,
        order_changed,
        len(visible) if page.wants_total else None,
        [_count(view, query, name, visible, window, lists) for name in page.facets],
        strategy,
        steps,
        list_size=len(lists[query.list]) if page.wants_list_size else None,
    )


def _find_in_order_of_list(
    view: View, query: Query, page: Page, window: Window, visible: BitMap, lists: Lists
) -> Found:
    """A page in the order of the list. It has changed where what was behind the page before is not what it was."""
    entries = sort_list(lists[query.list], ascending=query.ascending)
    start = 0 if page.after is None else entries.find_behind(page.after.place)
    order_changed = page.after is not None and page.after.version != entries.make_fingerprint(start)
    chosen: list[tuple[int, int, Place]] = []
    steps = 0
    for steps, place in enumerate(entries.walk(start), 1):
        ordinal = view.ids.find(place[1])
        if ordinal is not None and ordinal in visible:
            chosen.append((start + steps, ordinal, place))
            if len(chosen) > page.size:
                break
    shown = chosen[: page.size]
    return Found(
        [ordinal for _, ordinal, _ in shown],
        [place for _, _, place in shown],
        chosen[page.size][1] if len(chosen) > page.size else None,
        order_changed,
        len(visible) if page.wants_total else None,
        [_count(view, query, name, visible, window, lists) for name in page.facets],
        "list",
        steps,
        version=entries.make_fingerprint(shown[-1][0]) if shown else None,
        list_size=len(entries) if page.wants_list_size else None,
    )


def _ordinals_of(view: View, of: Mapping[int, int]) -> BitMap:
    """The resources of a list that are there; an entry may come before its resource."""
    return BitMap([ordinal for each in of if (ordinal := view.ids.find(each)) is not None]) & view.live


def match(view: View, filters: Sequence[Filter], lists: Lists | None = None) -> BitMap:
    """What all filters leave, for any viewer."""
    lists = lists or {}
    found = view.live
    for members in sorted((_union(view, each, lists) for each in filters if not each.exclude), key=len):
        found = found & members
        if not found:
            return found
    for each in filters:
        if each.exclude:
            found = found - _union(view, each, lists)
    return found


def keep_visible(view: View, query: Query, found: BitMap, window: Window) -> BitMap:
    """What the viewer may see of it."""
    if query.past_holdbacks:
        return found
    return view.rights.keep_visible(found, query.viewer, *window)


def is_visible(view: View, query: Query, packed: int, window: Window) -> bool:
    """Whether a resource is there and may be seen by this view."""
    ordinal = view.ids.find(packed)
    if ordinal is None or ordinal not in view.live:
        return False
    return query.past_holdbacks or view.rights.is_visible(ordinal, query.viewer, *window)


def has_same_rights(view: View, newest: View, query: Query, searched: Window, window: Window) -> bool:
    """Whether what was counted by a view for some instants is what is visible by the newest one for others."""
    if query.past_holdbacks:
        return True
    return view.rights is newest.rights and view.rights.is_same_time(searched, window)


def _union(view: View, of: Filter, lists: Lists) -> BitMap:
    sets = [_ordinals_of(view, lists[key]) if key in lists else view.sets.get(key, _NONE) for key in of.keys]
    return sets[0] if len(sets) == 1 else BitMap.union(*sets)


def _start(order: Order, query: Query, page: Page) -> int:
    """The rank of the first place that may be on the page."""
    if page.after is None:
        return 0 if query.ascending else len(order) - 1
    score, packed = page.after.place
    if query.ascending:
        return order.find((score, packed + 1))
    return order.find((score, packed)) - 1


def _old_places(
    view: View, query: Query, page: Page, visible: BitMap, moved: Mapping[int, Scores | None]
) -> list[tuple[Place, int]]:
    """What has moved since the version of the page, at its place of then, if that is behind the page before."""
    found = []
    for ordinal, before in moved.items():
        if before is None or ordinal not in visible:  # what was not there then has no place
            continue
        score = 0.0 if query.sort == BY_ID else before.get(query.sort, MISSING)
        place = (score, view.ids.packed[ordinal])
        if page.after is None or (place > page.after.place if query.ascending else place < page.after.place):
            found.append((place, ordinal))
    return found


def _walk(
    order: Order, visible: BitMap, start: int, wanted: int, ascending: bool, max_steps: int
) -> tuple[list[int] | None, int]:
    """The first of the visible along the order; None when there are too many steps."""
    chosen: list[int] = []
    steps = 0
    for steps, ordinal in enumerate(order.walk(start, ascending=ascending), 1):
        if ordinal in visible:
            chosen.append(ordinal)
            if len(chosen) == wanted:
                return chosen, steps
        if steps == max_steps:
            return None, steps
    return chosen, steps


def _select(order: Order, visible: BitMap, start: int, wanted: int, ascending: bool) -> list[int]:
    """The first of the visible, taken whole."""
    ordinals = np.array(visible.to_array(), np.uint32)
    ranks = order.ranks[ordinals]
    ranks = ranks[ranks >= start] if ascending else ranks[ranks.astype(np.int64) <= start]
    if len(ranks) > wanted:
        ranks = (
            np.partition(ranks, wanted - 1)[:wanted]
            if ascending
            else np.partition(ranks, len(ranks) - wanted)[-wanted:]
        )
    ranks = np.sort(ranks)
    return [int(each) for each in order.ordinals[ranks if ascending else ranks[::-1]]]


def _count(view: View, query: Query, name: str, visible: BitMap, window: Window, lists: Lists) -> FacetCounts:
    index = name.removeprefix("~")
    own = [each for each in query.filters if all(key.partition(":")[0] == index for key in each.keys)]
    if name.startswith("~") and own:
        others = [each for each in query.filters if each not in own]
        matches = match(view, others, lists)
        if query.list:
            matches = matches & _ordinals_of(view, lists[query.list])
        visible = keep_visible(view, query, matches, window)
    chosen = {key for each in query.filters for key in each.keys if key.partition(":")[0] == index}
    counts = {
        key: visible.intersection_cardinality(view.sets.get(key, _NONE))
        for key in view.values.get(index, frozenset()) | chosen
    }
    ranked = sorted(
        ((key, count) for key, count in counts.items() if count or key in chosen),
        key=lambda each: (-each[1], each[0]),
    )
    top = ranked[:MAX_FACET_VALUES]
    top += [each for each in ranked[MAX_FACET_VALUES:] if each[0] in chosen]
    return FacetCounts(name, [(key.partition(":")[2], count) for key, count in top])
