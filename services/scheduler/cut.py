"""The cut: the members of a run, in the order of (sync_bin, youtube_id), become slots of exactly `slot_size`.

Where members of different groups may not share a slot, the last one of a group is smaller. It is made in SQL, by key:
no process holds the list of members. A slot is due at the fraction of the window that equals the fraction of members
before it.
"""

from datetime import datetime
from typing import Any, NamedTuple

from libs.domain.bins import selects_all, values_between
from services.scheduler.definition import Definition
from services.scheduler.lanes import SCHEDULED
from services.scheduler.members import FIRST, LAST
from services.scheduler.populations import POPULATIONS

_BINS = "sync_bin = any($7::integer[]) and "
_CUT = """
with numbered as (
    select {group} as sync_bin, {key} as youtube_id, row_number() over keys as n,
        lead({group}) over keys is null as is_last{places}
    from {table} where {bins}{condition}
    window keys as (order by {group}, {key}){windows}
), cuts as materialized (
    select n, {upper_bin} as upper_bin, {upper_id} as upper_id from numbered where {is_cut}
), slots as (
    select row_number() over cut as number, n - lag(n, 1, 0::bigint) over cut as members,
        $3::timestamptz + $4::interval * (lag(n, 1, 0::bigint) over cut / max(n) over ()::float8) as due_at,
        lag(upper_bin, 1, {first_bin}) over cut as lower_bin, lag(upper_id, 1, '') over cut as lower_id,
        upper_bin, upper_id
    from cuts window cut as (order by n)
), written as (
    insert into scheduler.sync_slot (run_id, number, job_id, lane, due_at, planned_at, members,
        lower_bin, lower_id, upper_bin, upper_id, next_bin, next_id)
    select $1, number, $2, $6, due_at, due_at, members,
        lower_bin, lower_id, upper_bin, upper_id, lower_bin, lower_id
    from slots
    returning members
)
select count(*) as slots, coalesce(sum(members), 0)::bigint as members from written"""
# Where groups share slots, and where a slot ends with its group: then its upper key is before every key of the next.
_SHARED = {
    "places": "",
    "windows": "",
    "is_cut": "n % $5 = 0 or is_last",
    "upper_bin": f"case when is_last then {LAST.sync_bin} else sync_bin end",
    "upper_id": "case when is_last then '' else youtube_id end",
}
_APART = {
    "places": """,
        row_number() over keys_of_group as place, lead({key}) over keys_of_group is null as ends_group""",
    "windows": ", keys_of_group as (partition by {group} order by {key})",
    "is_cut": "place % $5 = 0 or ends_group",
    "upper_bin": f"case when is_last then {LAST.sync_bin} when ends_group then sync_bin + 1 else sync_bin end",
    "upper_id": "case when ends_group then '' else youtube_id end",
}
# No members yet: members that are put before this slot is leased are processed with it.
_EMPTY = f"""
insert into scheduler.sync_slot (run_id, number, job_id, lane, due_at, planned_at, members,
    lower_bin, lower_id, upper_bin, upper_id, next_bin, next_id)
values ($1, 1, $2, $4, $3, $3, 0, {FIRST.sync_bin}, '', {LAST.sync_bin}, '', {FIRST.sync_bin}, '')"""


class Cut(NamedTuple):
    """The result of a cut."""

    slots: int
    members: int


async def cut(
    connection: Any,
    run_id: int,
    job_id: int,
    definition: Definition,
    bins: tuple[list[int], int],
    bin_space: int,
    window: tuple[datetime, datetime],
) -> Cut:
    """Write the slots of a run. `bins` are the selected ones and bin_max."""
    statement, selected = cut_query(definition, bins, bin_space)
    opens_at, closes_at = window
    row = await connection.fetchrow(
        statement, run_id, job_id, opens_at, closes_at - opens_at, definition.slot_size, SCHEDULED, *selected
    )
    if row["slots"]:
        return Cut(row["slots"], row["members"])
    await connection.execute(_EMPTY, run_id, job_id, opens_at, SCHEDULED)
    return Cut(1, 0)


def cut_query(
    definition: Definition, bins: tuple[list[int], int], bin_space: int
) -> tuple[str, list[list[int]]]:
    """The statement, and the parameters behind the six that every cut has."""
    population = POPULATIONS[definition.population]
    bin_numbers, bin_max = bins
    selected = []
    if not selects_all(bin_numbers, bin_max):
        selected.append(values_between(bin_numbers, bin_max, 0, bin_space - 1))
    columns = {"group": population.group, "key": population.key}
    shape = _SHARED if population.shares_slots else _APART
    statement = _CUT.format(
        **columns,
        **{name: text.format(**columns) for name, text in shape.items()},
        table=population.table,
        bins=_BINS if selected else "",
        condition=population.condition(definition.where),
        first_bin=FIRST.sync_bin,
    )
    return statement, selected
