"""A Postgres server for reads: a pool for most of them, and a lane for large ones."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from libs.domain.clock import Clock
from services.query.lane import Lane
from services.query.question import Question, Size, TooHeavy
from services.query.settings import HeavySettings
from services.query.unsettled import Unsettled
from tally.contract.errors import Overloaded

_LATER_S = 5.0
_REMEMBERED = 1_000
_REMEMBERED_SECONDS = 60.0

T = TypeVar("T")


@dataclass(slots=True)
class Server:
    """One server, and which questions were too heavy for its pool lately."""

    pool: Any
    lane: Lane
    settings: HeavySettings
    clock: Clock
    unsettled: Unsettled = field(default_factory=Unsettled)
    _heavy_until: dict[tuple[Question, bool], float] = field(default_factory=dict)

    async def read(
        self, question: Question, caller: str, read: Callable[[Any, Size], Awaitable[T]], *, is_strong: bool
    ) -> T:
        """What `read` answers over the pool or, if it finds too much for that, over the lane.

        Raises Overloaded when the lane is full or too much is pending, and what `read` raises.
        """
        key = (question, is_strong)
        if self._heavy_until.get(key, 0.0) <= self.clock.monotonic():
            try:
                async with self.pool.acquire() as connection:
                    return await read(
                        connection, Size(self.settings.min_cells, self.settings.min_pending_events)
                    )
            except TooHeavy:
                self._remember(key)
        try:
            async with self.lane.connection_for(caller) as connection:
                return await read(connection, Size(None, self.settings.max_pending_events))
        except TooHeavy as error:
            raise Overloaded(
                f"{error.pending_events} events of this video's partition are not in the rollups yet, too many for "
                "a strong read. Ask again when the rollups have caught up, or without CONSISTENCY_STRONG",
                retry_after_s=_LATER_S,
            ) from error

    def _remember(self, key: tuple[Question, bool]) -> None:
        """The next time it goes to the lane at once, and costs the others nothing if that is full."""
        self._heavy_until.pop(key, None)
        while len(self._heavy_until) >= _REMEMBERED:
            del self._heavy_until[next(iter(self._heavy_until))]
        self._heavy_until[key] = self.clock.monotonic() + _REMEMBERED_SECONDS
