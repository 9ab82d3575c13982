"""The part of the journal that may hold entries which the rollups lack.

A statement that looks for such entries names the oldest day that it needs as a constant, so that Postgres plans and
locks the journal partitions from that day on, and not every partition that exists. (With a parameter in place of the
constant, a generic plan locks all of them.) The statement also returns the day that its own snapshot needs: when that
is older than the constant, the answer is discarded and the statement is repeated.
"""

import uuid
from typing import Any

from services.query.generations import Generations
from tally.contract.errors import Unavailable
from tally.contract.request_id import first_id_of, time_ms_of

JOURNAL_SINCE = """(
    select least(cluster.floor, (
        select opening_floor from counting.log where state <> 'settled' order by opening_floor limit 1
    )) from public.cluster
) as journal_since"""
"""A column that each statement for `Unsettled.fetch` returns."""

_LOOK_UP = f"select {JOURNAL_SINCE}"
_DAY_MS = 86_400_000
_TRIES = 3


class Unsettled:
    """The oldest day that is needed, by the last answer of one server."""

    def __init__(self) -> None:
        self.generations = Generations()
        """what is known of the same server's generations"""
        self._since: uuid.UUID | None = None

    async def fetch(self, connection: Any, statement: str, *arguments: Any) -> list[Any]:
        """The rows of a statement with `{since}` for the constant and the column JOURNAL_SINCE.

        `connection`: an asyncpg connection or pool, whose own limits apply to each statement.
        """
        for _ in range(_TRIES):
            if self._since is None:
                self._since = _day_of(await connection.fetchval(_LOOK_UP))
            since = self._since
            rows: list[Any] = await connection.fetch(statement.format(since=f"'{since}'::uuid"), *arguments)
            if not rows:
                return rows  # no log is unsettled, so nothing is missing
            self._since = _day_of(rows[0]["journal_since"])
            if self._since >= since:
                return rows
        raise Unavailable("the floor of the journal moved during each of several reads; ask again")


def _day_of(request_id: uuid.UUID) -> uuid.UUID:
    """The bound of the journal partition that the id belongs to. The text of a statement changes once a day."""
    return first_id_of(time_ms_of(request_id) // _DAY_MS * _DAY_MS)
