"""The view of this replica: loaded whole at the start, then updated from the feed.

A replica that cannot go on by the feed (its row is gone, the record was restored, the changes are not kept, a change
cannot be applied) reads the record whole again, while its old view answers until it is stale.
"""

import asyncio
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from libs.stores.postgres import AWAY
from services.catalog import replicas
from services.catalog.feed import Change, Head, check_change, read_head, read_view_changes
from services.catalog.freshness import Freshness, Told, seconds_since_boot
from services.catalog.index import Index, Row
from services.catalog.layout import Layouts, name_scores, read_layouts
from services.catalog.moves import Scores
from services.catalog.reindexing import read_incomplete
from services.catalog.resource_reading import read_all_rows, read_rows
from services.catalog.resource_type import ResourceType
from services.catalog.rule import Dimensions, Rule
from services.catalog.rule_record import read_rules
from services.catalog.settings import CatalogSettings
from services.catalog.trial import Trial, try_rules
from services.catalog.type_record import read_dimensions, read_types
from services.catalog.view import View
from tally.contract.errors import RightsStale, Unavailable

_LOGGER = structlog.get_logger(__name__)

_SNAPSHOT = {"isolation": "repeatable_read", "readonly": True}
_ROWS = 2_000
_PUBLISH_ROWS = 50_000
_PIECE = 200
_TRIES = 50
_SHOWN_SECONDS = 10.0
_AHEAD_US = 2_000_000
"""So long before a boundary the rights behind it are compiled."""


class CannotFollow(Exception):
    """The feed does not lead from the replica's view to the newest change; the record is read whole."""


@dataclass(frozen=True, slots=True)
class _News:
    """What a snapshot shows of the things that changed."""

    types: Sequence[ResourceType] | None
    incomplete: frozenset[str]
    """read with the types"""
    dimensions: Dimensions | None
    rules: Mapping[str, Sequence[Rule]]
    rows: Mapping[str, Row]
    removed: Mapping[str, Collection[str]]
    """of each resource that changed: the sets that it has left"""
    history: Sequence[tuple[int, str, Scores | None]]
    """change, resource and its scores from then on, in order; None: it was removed"""


class Follower:
    """Keeps the newest view and its freshness."""

    def __init__(
        self,
        pool: Any,
        settings: CatalogSettings,
        freshness: Freshness,
        now: Callable[[], float] = seconds_since_boot,
    ) -> None:
        """`pool`: for nothing else, so that no other work delays the freshness query."""
        self.replica_id = uuid.uuid4()
        self.freshness = freshness
        self.loading_count = 0
        """rows read so far while the record is read whole; 0: it is not"""
        self._pool = pool
        self._settings = settings
        self._now = now
        self._index: Index | None = None
        self._view: View | None = None
        self._identity = ""
        self._is_registered = False
        self._moved = asyncio.Event()
        self._shown: deque[tuple[float, int]] = deque()

    @property
    def view(self) -> View:
        """The newest view. Raises Unavailable while there is none."""
        if self._view is None:
            raise Unavailable(
                "this replica of the catalog is still reading the record; ask another, or later"
            )
        return self._view

    @property
    def is_ready(self) -> bool:
        """Whether it may answer."""
        limit = self._settings.rights.max_staleness_seconds
        return self._view is not None and self.freshness.stale_seconds <= limit

    @property
    def resource_count(self) -> int:
        """Resources in the newest view."""
        return 0 if self._view is None else len(self._view.live)

    async def try_rules(self, subjects: Mapping[str, Sequence[Rule]]) -> tuple[View, Trial]:
        """What rules would do to the newest view. Raises Unavailable when the view does not come to rest."""
        for _ in range(_TRIES):
            view, index = self.view, self._index
            if index is not None:
                trial = await try_rules(index, subjects, default_allow=self._settings.rights.default_allow)
                if self._view is view and self._index is index:
                    return view, trial
            await asyncio.sleep(self._settings.feed.interval_seconds / 10)
        raise Unavailable("the catalog changed during each of several tries; send the same again")

    async def turn(self) -> float | None:
        """One freshness query, and the changes up to the one that it returned. Raises the errors in AWAY."""
        try:
            if self._index is None:
                await self._read_whole()
            if not self._is_registered:
                await self._register()
            if await self._ask():
                return 0.0
        except CannotFollow as error:
            _LOGGER.warning("catalog cannot go on by the feed; reading the record anew", cause=str(error))
            self._index = None
            return 0.0
        except AWAY:
            raise
        except Exception:
            # The view that answers is whole, and good until it is stale.
            _LOGGER.exception(
                "a change cannot be applied: the catalog stays as it is, and refuses when it is stale"
            )
            self._index = None
            return self._settings.feed.interval_seconds
        with suppress(RightsStale):
            await self._prepare_rights()
        return None

    async def leave(self) -> None:
        """Take the row along, so that no PutRules waits for this replica; it must not answer any more."""
        self._view = None
        try:
            await replicas.remove(self._pool, self.replica_id)
        except AWAY as error:
            _LOGGER.warning("the row of this replica stays until it is swept", error=str(error))

    async def wait_for(self, change: int) -> None:
        """Wait until a change is in the view. Raises ChangeOutOfRange if it does not exist."""
        if self.view.change >= change and self.view.change >> 40 == change >> 40:
            return
        head = await read_head(self._pool)
        check_change(change, head, "min_change")
        while self.view.change < change:
            self._moved.clear()
            await self._moved.wait()

    # Reading it whole

    async def _read_whole(self) -> None:
        """Read the record in one snapshot. The current view continues to answer meanwhile, under its row."""
        index = Index(
            default_allow=self._settings.rights.default_allow, kept_moves=self._settings.find.kept_moves
        )
        self.loading_count = 0
        async with self._pool.acquire() as connection, connection.transaction(**_SNAPSHOT):
            head = await read_head(connection)
            view = await self._load(connection, index, head)
        self.loading_count = 0
        if self._identity and head.identity != self._identity:
            await self._begin_anew()
        self._identity = head.identity
        self._index = index
        self._show(view)

    async def _begin_anew(self) -> None:
        """What was told before, and the row, are of another life of the record, or of none."""
        self.freshness.begin_anew()
        self._is_registered = False
        await replicas.remove(self._pool, self.replica_id)

    async def _register(self) -> None:
        """Have PutRules wait for this replica. It answers only after a freshness query from here on."""
        self.freshness.begin_anew()
        self.replica_id = uuid.uuid4()
        limit = self._settings.rights.max_staleness_seconds
        await replicas.register(self._pool, self.replica_id, self.view.change, limit)
        self._is_registered = True

    async def _load(self, connection: Any, index: Index, head: Head) -> View:
        index.stage_types(await read_types(connection), await read_incomplete(connection))
        layouts = await read_layouts(connection)
        index.stage_dimensions(await read_dimensions(connection))
        after = ""
        while rows := await read_all_rows(connection, after, _ROWS, layouts):
            for row in rows:
                index.stage_resource(row)
            after = rows[-1].id
            self.loading_count += len(rows)
            if self.loading_count % _PUBLISH_ROWS < _ROWS:
                await index.publish(head.change)
            await asyncio.sleep(0)
        for subject, rules in (await read_rules(connection)).items():
            index.stage_rules(subject, rules)
        index.begin_moves(head.change)
        return await index.publish(head.change)

    # Following

    async def _ask(self) -> bool:
        """The freshness query. True when the view has moved, so that the next query should tell of it at once."""
        asked_at = self._now()
        if not await replicas.renew(self._pool, self.replica_id, self.view.change):
            await self._begin_anew()
            raise CannotFollow("the row of this replica was swept")
        read_at = self._now()
        answer = await replicas.ask(self._pool)
        if answer.identity != self._identity or answer.change < self.view.change:
            await self._begin_anew()
            raise CannotFollow(
                f"the record is that of {answer.identity} and ends at {answer.change}; this replica has that of "
                f"{self._identity} up to {self.view.change}"
            )
        told = Told(asked_at, read_at, self._now(), answer.change, answer.postgres_us)
        self.freshness.tell(told, self.view.change)
        if answer.change == self.view.change:
            return False
        await self._follow()
        return True

    async def _follow(self) -> None:
        """Apply all changes of one snapshot, with what that snapshot shows of the things that changed."""
        after, limit = self.view.change, self._settings.feed.max_changes
        async with self._pool.acquire() as connection, connection.transaction(**_SNAPSHOT):
            head = await read_head(connection)
            changes = await read_view_changes(connection, after, limit + 1)
            if head.identity != self._identity or after < head.kept_after or len(changes) > limit:
                raise CannotFollow(f"too much has changed since {after}")
            news = await _read_news(connection, changes)
        index, self._index = self._index, None  # half of a change must not stay in it
        assert index is not None  # noqa: S101 - turn() has seen to it
        await _stage(index, news)
        view = await index.publish(head.change)
        self._index = index
        self._show(view)

    def change_before(self, seconds: float) -> int:
        """The newest change that was shown so long ago, or the first that was."""
        limit = self._now() - seconds
        while len(self._shown) > 1 and self._shown[1][0] <= limit:
            self._shown.popleft()
        return self._shown[0][1]

    def _show(self, view: View) -> None:
        self._view = view
        self._shown.append((self._now(), view.change))
        self.change_before(_SHOWN_SECONDS)  # older ones go
        self.freshness.apply(view.change)
        self._moved.set()

    async def _prepare_rights(self) -> None:
        """Compile what holds now, and what will hold behind a boundary that is near."""
        view = self.view
        earliest, latest = self.freshness.present()
        times = [earliest, latest]
        boundary = view.rights.next_boundary_us(latest)
        if boundary is not None and boundary <= latest + _AHEAD_US:
            times.append(boundary)
        for time_us in times:
            for _ in view.rights.prepare(time_us):
                await asyncio.sleep(0)


async def _read_news(connection: Any, changes: Sequence[Change]) -> _News:
    kinds = {change.kind for change in changes}
    subjects = sorted({change.subject for change in changes if change.kind == "rules"})
    rules = await read_rules(connection, subjects) if subjects else {}
    removed: defaultdict[str, set[str]] = defaultdict(set)
    for change in changes:
        if change.kind in ("put", "deleted"):
            removed[change.subject].update(change.removed)
    ids = sorted(removed)
    layouts = await read_layouts(connection) if ids else {}
    rows: dict[str, Row] = {}
    for start in range(0, len(ids), _ROWS):
        rows |= await read_rows(connection, ids[start : start + _ROWS], layouts)
    return _News(
        await read_types(connection) if "type" in kinds else None,
        await read_incomplete(connection) if "type" in kinds else frozenset(),
        await read_dimensions(connection) if "dimension" in kinds else None,
        {subject: rules.get(subject, ()) for subject in subjects},
        rows,
        removed,
        [_scores_of(change, layouts) for change in changes if change.kind in ("put", "deleted")],
    )


def _scores_of(change: Change, layouts: Layouts) -> tuple[int, str, Scores | None]:
    scores = None if change.layout is None else name_scores(layouts, change.layout, change.scores)
    return change.change, change.subject, scores


async def _stage(index: Index, news: _News) -> None:
    if news.types is not None:
        index.stage_types(news.types, news.incomplete)
    if news.dimensions is not None:
        index.stage_dimensions(news.dimensions)
    for subject, rules in news.rules.items():
        index.stage_rules(subject, rules)
    for count, (change, resource_id, scores) in enumerate(news.history, 1):
        index.stage_move(change, resource_id, scores)
        if count % _PIECE == 0:
            await asyncio.sleep(0)
    for count, (resource_id, removed) in enumerate(news.removed.items(), 1):
        if (row := news.rows.get(resource_id)) is not None:
            index.stage_resource(row, removed)
        else:
            index.stage_deleted(resource_id, removed)
        if count % _PIECE == 0:
            await asyncio.sleep(0)
