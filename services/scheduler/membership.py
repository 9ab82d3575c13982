"""Putting members: each batch is sorted, copied, and upserted.

Bins come from the column's default alone, so that a new row gets its bin and no other ever changes. A row that does not
differ is not written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from libs.stores.transactions import transaction

FLAGS = ("is_oon", "has_label_association")
"""The columns that jobs select by: false where a new row leaves them out."""

# A table of each connection's own, empty in each transaction.
_CREATE = """
create temporary table if not exists {temporary} ({key} text collate "C"{columns}) on commit delete rows"""
# In the order of ids, as everything that locks members: two batches with the same new ids wait, and do not deadlock.
_INSERT = """
with inserted as (
    insert into {table} ({key}, member_since, {names})
    select {key}, $1, {values} from {temporary} order by {key}
    on conflict ({key}) do nothing
    returning {key}
)
select count(*) from inserted"""
# Not `on conflict do update`: it would not know what was left out, and keeps its value.
_UPDATE = """
with changed as materialized (
    select {key} from {table} as member join {temporary} as incoming using ({key})
    where member.gone or {flags_differ} or {others_differ}
    order by {key} for no key update of member
), updated as (
    update {table} as member set {kept}, gone = false,
        member_since = case when member.gone or {flags_differ} then $1 else member.member_since end
    from {temporary} as incoming join changed using ({key})
    where member.{key} = incoming.{key}
    returning member.{key}
)
select count(*) from updated"""


@dataclass(frozen=True, slots=True)
class Incoming:
    """How the members of a population arrive."""

    table: str
    columns: Mapping[str, str]
    """those behind the id, by name: the SQL type"""
    key: str = "youtube_id"
    """the column of the id"""
    flags: Sequence[str] = FLAGS
    """those of them that jobs select by"""

    @property
    def temporary(self) -> str:
        """The table that rows are copied to."""
        return "incoming_" + self.table.rpartition(".")[2]

    def format(self, statement: str) -> str:
        """A statement for this population."""
        others = [name for name in self.columns if name not in self.flags]
        return statement.format(
            table=self.table,
            key=self.key,
            temporary=self.temporary,
            columns="".join(f", {name} {kind}" for name, kind in self.columns.items()),
            names=", ".join(self.columns),
            values=", ".join(
                f"coalesce({name}, false)" if name in self.flags else name for name in self.columns
            ),
            kept=", ".join(f"{name} = coalesce(incoming.{name}, member.{name})" for name in self.columns),
            flags_differ="("
            + " or ".join(f"coalesce(incoming.{name} <> member.{name}, false)" for name in self.flags)
            + ")",
            others_differ=" or ".join(
                f"(incoming.{name} is not null and incoming.{name} is distinct from member.{name})"
                for name in others
            ),
        )


VIDEOS = Incoming(
    "scheduler.youtube_video",
    {
        "channel_id": 'text collate "C"',
        "title": "text",
        "is_oon": "boolean",
        "has_label_association": "boolean",
    },
)
REPOS = Incoming(
    "scheduler.repo", {"host": "integer", "is_wanted": "boolean"}, key="did", flags=("is_wanted",)
)
CHANNELS = Incoming(
    "scheduler.youtube_channel", {"title": "text", "is_oon": "boolean", "has_label_association": "boolean"}
)


class Put(NamedTuple):
    """The outcomes of members that were put."""

    inserted: int
    updated: int
    unchanged: int


async def put_members(pool: Any, incoming: Incoming, rows: Sequence[tuple[Any, ...]], now: datetime) -> Put:
    """Put rows of an id and the columns of `incoming`; of two with one id the later one."""
    latest = {row[0]: row for row in rows}
    records = [latest[youtube_id] for youtube_id in sorted(latest)]
    async with transaction(pool) as connection:
        await connection.execute(incoming.format(_CREATE))
        await connection.copy_records_to_table(
            incoming.temporary, records=records, columns=[incoming.key, *incoming.columns]
        )
        inserted = await connection.fetchval(incoming.format(_INSERT), now)
        updated = 0
        if inserted < len(records):
            updated = await connection.fetchval(incoming.format(_UPDATE), now)
    return Put(inserted, updated, len(records) - inserted - updated)
