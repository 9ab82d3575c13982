"""The feed: numbered changes of the record. A number is drawn under a lock that is held until the commit.

Numbers are larger than all before, also after a restore: an epoch of the feed begins at its number * 2^40, and the next
one begins with the first write after the cluster's epoch or Postgres's timeline has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tally.contract.errors import ChangeOutOfRange

EPOCH_BITS = 40
IDENTITY = """(
    select epoch || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) from public.cluster
)"""
"""The cluster's epoch and the timeline of Postgres, both of now."""

DRAWN = f"""drawn as (
    update catalog.feed set
        last_change = case when identity = {IDENTITY} then last_change + 1
            else (((last_change >> {EPOCH_BITS}) + 1) << {EPOCH_BITS}) + 1 end,
        identity = {IDENTITY}
    returning last_change as change
)"""
"""Draws a number. It belongs into the last statement of its transaction: all other writers wait from here on."""

_READ_HEAD = f"select last_change, kept_after, {IDENTITY} as identity from catalog.feed"
_COLUMNS = "change, kind, subject, removed, scores, layout, added"
_READ_CHANGES = f"select {_COLUMNS} from catalog.change where change > $1 order by change limit $2"
_READ_VIEW_CHANGES = f"""
select {_COLUMNS} from catalog.change where change > $1 and kind <> 'list' order by change limit $2"""
_READ_PAGE = """
select change, kind, subject from catalog.change where change > $1 and change <= $2
order by change, kind, subject limit $3"""
_REMOVE = """
with removed as (
    delete from catalog.change where made_at < now() - make_interval(secs => $1) returning change
)
update catalog.feed set kept_after = greatest(kept_after, (select max(change) from removed))
where exists (select from removed)"""
_NOTIFY = "select pg_notify('tally_catalog', '')"
CHANNEL = "tally_catalog"


@dataclass(frozen=True, slots=True)
class Head:
    """Where the feed is in a snapshot."""

    change: int
    kept_after: int
    identity: str
    """of the cluster and its Postgres; a replica that meets another one starts again"""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a change did."""

    change: int
    kind: str
    subject: str
    removed: Sequence[str]
    scores: Sequence[float | None]
    layout: int | None
    """of the scores"""
    added: Sequence[str]
    """to a list, with the scores"""


async def read_head(connection: Any) -> Head:
    """The end of the feed, over an asyncpg connection or pool."""
    row = await connection.fetchrow(_READ_HEAD)
    return Head(row["last_change"], row["kept_after"], row["identity"])


async def read_changes(connection: Any, after: int, limit: int) -> list[Change]:
    """The changes behind one, in their order."""
    return [Change(*row) for row in await connection.fetch(_READ_CHANGES, after, limit)]


async def read_view_changes(connection: Any, after: int, limit: int) -> list[Change]:
    """The same, without those of lists, of which a view has nothing."""
    return [Change(*row) for row in await connection.fetch(_READ_VIEW_CHANGES, after, limit)]


async def read_page(connection: Any, after: int, until: int, limit: int) -> list[tuple[int, str, str]]:
    """Number, kind and subject of the changes behind one, up to another."""
    return [tuple(row) for row in await connection.fetch(_READ_PAGE, after, until, limit)]


async def remove_changes(connection: Any, kept_seconds: float) -> None:
    """Remove the changes that are older."""
    await connection.execute(_REMOVE, kept_seconds)


async def notify(connection: Any) -> None:
    """Wake every replica. Never inside a transaction that writes: it would take a lock of the whole database."""
    await connection.execute(_NOTIFY)


def check_change(change: int, head: Head, field: str, *, needs_kept: bool = False) -> None:
    """Raises ChangeOutOfRange for a number that is not of this feed, or, with `needs_kept`, lacks changes behind it."""
    if change < 0 or change > head.change:
        raise ChangeOutOfRange(
            f"{field} is {change}, and the newest change is {head.change}: it was drawn before a restore, or by "
            "another cluster. Read everything anew, and go on from the newest change"
        )
    if change and change >> EPOCH_BITS != head.change >> EPOCH_BITS:
        raise ChangeOutOfRange(
            f"{field} is {change}, of an epoch before the restore of this record, whose newest change is "
            f"{head.change}. Read everything anew, and go on from the newest change"
        )
    if needs_kept and change < head.kept_after:
        raise ChangeOutOfRange(
            f"{field} is {change}, and changes up to {head.kept_after} are not kept any more. Read everything anew, "
            f"and go on from the newest change, {head.change}"
        )
