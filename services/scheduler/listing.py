"""Lists of members by their bins, and the number of members in each bin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.scheduler.members import LAST, Key, Range, read_members
from services.scheduler.populations import POPULATIONS, Population
from tally.contract.errors import InvalidRequest, Violation

_COUNT = "select count(*) from {table} where {condition}"
_DISTRIBUTION = """
select sync_bin % $1 as bin_number, count(*) as members from {table} where not gone group by bin_number"""
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Selection:
    """Some bins of `bin_max`, or all members, with the number that the caller expects."""

    bin_numbers: tuple[int, ...]
    bin_max: int
    confirm_members: int | None = None
    """None: some bins"""


@dataclass(frozen=True, slots=True)
class Listing:
    """Members of a population with some values in their filters."""

    population: Population
    where: Mapping[str, bool]

    async def page(
        self, pool: Any, selection: Selection, bin_space: int, after: Key, limit: int
    ) -> Sequence[Key]:
        """At most `limit` keys behind `after`. Raises InvalidRequest if the number of members differs (T000-06)."""
        if selection.confirm_members is not None:
            await self._confirm(pool, selection.confirm_members)
        if not selection.bin_numbers:
            return []
        members = Range(
            self.population,
            self.where,
            selection.bin_numbers,
            selection.bin_max,
            bin_space,
            after,
            LAST,
        )
        return [member.key for member in await read_members(pool, members, [], limit)]

    async def _confirm(self, pool: Any, expected: int) -> None:
        condition = self.population.condition(self.where)
        count = await pool.fetchval(_COUNT.format(table=self.population.table, condition=condition))
        if abs(count - expected) > _TOLERANCE * count:
            raise InvalidRequest(
                [
                    Violation(
                        "selection.all.confirm_members",
                        f"must be within 1 % of the number of members, {count}: everything is selected",
                    )
                ]
            )


async def count_by_bin(pool: Any, population: str, bin_max: int) -> list[int]:
    """The members in each bin."""
    counts = [0] * bin_max
    statement = _DISTRIBUTION.format(table=POPULATIONS[population].table)
    for row in await pool.fetch(statement, bin_max):
        counts[row["bin_number"]] = row["members"]
    return counts
