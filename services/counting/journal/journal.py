"""The journal: one statement that inserts a group and returns the outcomes in one small row.

"Not inserted" means "already durable" only if the log was open. The row contains both facts, so that one answer can
never be taken for the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.stores.write_connection import WriteConnection
from services.counting.journal.entry import NumberedEntry

# The rows go in sorted by key: unsorted groups of two shards wait for each other in a circle. Numbers come as strings,
# because asyncpg looks at each element of an array several times: see `rollups`.
_INSERT = """
with open_log as materialized (
    select floor from counting.log where log_id = $1 and state = 'open' for key share
), entry as materialized (
    select * from unnest(string_to_array($2, ',')::uuid[], string_to_array($3, ',')::smallint[],
        string_to_array($4, ',')::bigint[], string_to_array($5, ',')::bigint[], string_to_array($6, ',')::integer[],
        string_to_array($7, ',')::bigint[], $8::bytea[])
        as entry (request_id, partition, seq, received_at_us, events, request_hash, payload)
), inserted as (
    insert into counting.journal (request_id, partition, log_id, seq, received_at, events, request_hash, payload)
    select request_id, partition, $1, seq, to_timestamp(received_at_us / 1e6), events, request_hash, payload
    from entry, open_log
    where request_id >= floor
    order by request_id, partition, seq
    on conflict (request_id, partition) do nothing
    returning seq
)
select exists (select from open_log) as is_open,
    array(select seq from entry, open_log where request_id < floor) as below_floor,
    array(select seq from entry, open_log where request_id >= floor
        and seq not in (select seq from inserted)) as not_inserted"""

_COMPARE = """
select entry.seq from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[]) as entry
    (request_id, partition, seq, request_hash)
join counting.journal using (request_id, partition)
where journal.request_hash <> entry.request_hash"""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of the insert. With `is_open` false nothing is known about any entry."""

    is_open: bool
    below_floor: frozenset[int]
    duplicates: frozenset[int]


class Journal:
    """The inserts of one log. The owner makes sure that at most one is under way."""

    def __init__(self, connection: WriteConnection, log_id: int, timeout_seconds: float) -> None:
        self._connection = connection
        self._log_id = log_id
        self._timeout_seconds = timeout_seconds

    async def insert(self, group: Sequence[NumberedEntry]) -> Answer:
        """Insert a group in one transaction of its own.

        Raises Refused when the server refused the whole group, and InDoubt.
        """
        arguments = (
            ",".join([numbered.entry.request_id.hex for numbered in group]),
            ",".join([str(numbered.entry.partition) for numbered in group]),
            ",".join([str(numbered.seq) for numbered in group]),
            ",".join([str(numbered.received_at_us) for numbered in group]),
            ",".join([str(len(numbered.entry.events)) for numbered in group]),
            ",".join([str(numbered.entry.request_hash) for numbered in group]),
            [numbered.entry.payload for numbered in group],
        )

        async def send(connection: Any) -> Any:
            return await connection.fetchrow(_INSERT, self._log_id, *arguments)

        row = await self._connection.run(send, timeout_seconds=self._timeout_seconds)
        return Answer(row["is_open"], frozenset(row["below_floor"]), frozenset(row["not_inserted"]))

    async def find_mismatches(self, duplicates: Sequence[NumberedEntry]) -> frozenset[int]:
        """The seqs of those duplicates whose predecessor has other content. Raises Refused and InDoubt."""
        arguments = (
            [numbered.entry.request_id for numbered in duplicates],
            [numbered.entry.partition for numbered in duplicates],
            [numbered.seq for numbered in duplicates],
            [numbered.entry.request_hash for numbered in duplicates],
        )

        async def send(connection: Any) -> Any:
            return await connection.fetch(_COMPARE, *arguments)

        rows = await self._connection.run(send, timeout_seconds=self._timeout_seconds)
        return frozenset(row["seq"] for row in rows)
