"""The members of a slot, read along the index of (sync_bin, youtube_id) when the slot is leased."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

from libs.domain.bins import selects_all, values_between
from services.scheduler.populations import Population


class Key(NamedTuple):
    """The place of a member in its population."""

    sync_bin: int
    youtube_id: str

    def __str__(self) -> str:
        return f"{self.sync_bin}/{self.youtube_id}"


FIRST = Key(-1, "")
"""Before every member."""
LAST = Key(2**31 - 1, "")
"""After every member."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a slot, with the columns that the handler asked for."""

    key: Key
    columns: Mapping[str, str]


PLANNER_SETTINGS = {"enable_bitmapscan": "off"}
"""For connections that read slots: Postgres would rather collect the rows by a bitmap and sort them."""

# The values between the ends alone: with all values of the bins a read would go through the whole index.
_BINS = "sync_bin = any($5::integer[]) and "
_READ = """
select {group} as sync_bin, {key} as youtube_id{columns} from {table}
where {bins}({group}, {key}) > ($1, $2) and ({group}, {key}) <= ($3, $4) and {condition}
order by {group}, {key} limit {limit}"""

_READ_ITEMS = """
select 0 as sync_bin, {key} as youtube_id{columns} from {table}
where {key} = any($1) and {key} > $2 and {condition} order by {key} limit {limit}"""


@dataclass(frozen=True, slots=True)
class Items:
    """Members by their ids, above `after` in the order of the ids: those of them that a job still selects."""

    population: Population
    where: Mapping[str, bool]
    ids: Sequence[str]
    after: Key

    def query(self, columns: Sequence[str], limit: int) -> tuple[str, list[Any]]:
        """The statement that reads the first members, and its parameters. `columns` are of the population."""
        statement = _READ_ITEMS.format(
            columns="".join(f", {column}::text" for column in columns),
            table=self.population.table,
            key=self.population.key,
            condition=self.population.condition(self.where),
            limit=limit,
        )
        return statement, [list(self.ids), self.after.youtube_id]


@dataclass(frozen=True, slots=True)
class Range:
    """Members above `after` and up to `until` whose bins are selected."""

    population: Population
    where: Mapping[str, bool]
    bin_numbers: Sequence[int]
    bin_max: int
    bin_space: int
    after: Key
    until: Key

    def query(self, columns: Sequence[str], limit: int) -> tuple[str, list[Any]]:
        """The statement that reads the first members, and its parameters. `columns` are of the population."""
        arguments: list[Any] = [*self.after, *self.until]
        bins = ""
        if not selects_all(self.bin_numbers, self.bin_max):
            bins = _BINS
            first, last = max(self.after.sync_bin, 0), min(self.until.sync_bin, self.bin_space - 1)
            arguments.append(values_between(self.bin_numbers, self.bin_max, first, last))
        statement = _READ.format(
            columns="".join(f", {column}::text" for column in columns),
            table=self.population.table,
            group=self.population.group,
            key=self.population.key,
            bins=bins,
            condition=self.population.condition(self.where),
            limit=limit,
        )
        return statement, arguments


async def read_members(
    connection: Any, members: Range | Items, columns: Sequence[str], limit: int
) -> list[Member]:
    """The first members, in the order of their keys."""
    wanted = sorted(set(columns) & members.population.columns)
    statement, arguments = members.query(wanted, limit)
    return [
        Member(
            Key(row["sync_bin"], row["youtube_id"]),
            {column: row[column] for column in wanted if row[column] is not None},
        )
        for row in await connection.fetch(statement, *arguments)
    ]


def digest_of(ids: Sequence[str]) -> int:
    """A hash that identifies the ids of a batch, in any order; 64 bits, signed."""
    digest: int = xxhash.xxh3_64_intdigest("\0".join(sorted(ids)).encode())
    return digest - 2**64 if digest >= 2**63 else digest
