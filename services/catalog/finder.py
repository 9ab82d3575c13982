"""A find, from its query to its answer: wait, find, read details, check the rights again."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from services.catalog.contents import Contents
from services.catalog.finding import (
    Found,
    Window,
    check_query,
    find,
    find_lists,
    has_same_rights,
    is_visible,
)
from services.catalog.follower import Follower
from services.catalog.ids import unpack
from services.catalog.list_reading import ListReader, is_large
from services.catalog.query import BY_LIST, Cursor, Page, Query
from services.catalog.rule import Viewer
from services.catalog.view import View
from tally.contract.errors import ChangeOutOfRange, Unavailable

_LOGGER = structlog.get_logger(__name__)

_TRIES = 4
"""The first, and three more when the rules have changed meanwhile."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What leaves: everything of it, also what was only counted, was checked at `as_of_us`."""

    ids: Sequence[str]
    details: Mapping[str, bytes]
    found: Found
    change: int
    as_of_us: int
    next_cursor: Cursor | None
    sets_us: int
    details_us: int
    repeats: int


class Finder:
    """Answers finds by the newest view."""

    def __init__(
        self,
        follower: Follower,
        contents: Contents,
        lists: ListReader,
        max_steps: int,
        stopwatch: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._follower = follower
        self._contents = contents
        self._lists = lists
        self._max_steps = max_steps
        self._stopwatch = stopwatch

    async def find(self, query: Query, page: Page, *, with_details: bool, min_change: int) -> Answer:
        """A page. Raises InvalidRequest, ChangeOutOfRange, RightsStale and Unavailable.

        Nothing may be awaited between the return of this and the sending of the answer.
        """
        if min_change:
            await self._follower.wait_for(min_change)
        if page.after is not None and query.sort != BY_LIST:
            with suppress(ChangeOutOfRange):  # of before a restore: then the order has changed
                await self._follower.wait_for(page.after.version)
        if query.past_holdbacks or query.at_us is not None:
            _LOGGER.info("find past the holdbacks", viewer=query.viewer, at_us=query.at_us)
        for repeats in range(_TRIES):
            names = find_lists(self._follower.view, query)
            lists = await self._lists.read(names, min_change)
            view = self._follower.view  # the newest, now that the lists are read
            check_query(view, query, page.facets)
            if find_lists(view, query) != names:
                continue
            began = self._stopwatch()
            searched = self._window(query)
            work = partial(find, view, query, page, searched, self._max_steps, lists)
            found = await asyncio.to_thread(work) if is_large(lists) else work()
            ids = [unpack(view.ids.packed[ordinal]) for ordinal in found.ordinals]
            ended = self._stopwatch()
            details: Mapping[str, bytes] = {}
            if with_details and ids:
                versions = {
                    each: view.versions[ordinal] for each, ordinal in zip(ids, found.ordinals, strict=True)
                }
                details = await self._contents.read(versions, view.change)
            read = self._stopwatch()
            # From here on nothing is awaited.
            window = self._window(query)
            newest = self._follower.view
            shown = [*found.ordinals, *(() if found.following is None else (found.following,))]
            packed = [view.ids.packed[ordinal] for ordinal in shown]
            if all(is_visible(newest, query, each, window) for each in packed) and (
                not page.counts or has_same_rights(view, newest, query, searched, window)
            ):
                return _answer(view, page, found, ids, details, window, (began, ended, read), repeats)
        raise Unavailable("the rules changed during each of several tries; send the same again")

    def sees(self, viewer: Viewer, ids: Sequence[str]) -> list[str]:
        """Those of some resources that are there and that a viewer may see now. Raises RightsStale."""
        query = Query(viewer, (), "")
        view, window = self._follower.view, self._window(query)
        packed = {each: view.find(each) for each in ids}
        return [
            each
            for each, ordinal in packed.items()
            if ordinal is not None and is_visible(view, query, view.ids.packed[ordinal], window)
        ]

    def _window(self, query: Query) -> Window:
        """The instants for which rights must hold. Raises RightsStale, also for another time than now."""
        present = self._follower.freshness.present()
        return present if query.at_us is None else (query.at_us, query.at_us)


def _answer(
    view: View,
    page: Page,
    found: Found,
    ids: Sequence[str],
    details: Mapping[str, bytes],
    window: Window,
    times: tuple[int, int, int],
    repeats: int,
) -> Answer:
    began, ended, read = times
    version = view.change if page.after is None or found.order_changed else page.after.version
    if found.version is not None:
        version = found.version
    next_cursor = Cursor(version, found.places[-1]) if found.has_more else None
    return Answer(
        ids,
        details,
        found,
        view.change,
        window[0],
        next_cursor,
        (ended - began) // 1000,
        (read - ended) // 1000,
        repeats,
    )
