"""Where an answer comes from: Valkey for totals, Postgres for the rest, the journal too for strong reads."""

from typing import Any

from libs.domain.minutes import MinuteRange
from libs.domain.partition import partition_of
from libs.stores.postgres import reaching_postgres
from services.query.hot import Hot
from services.query.pending import read_everything
from services.query.warm import Reading, read_rollups


class Reader:
    """Reads for one cluster."""

    def __init__(self, pool: Any, hot: Hot, partition_count: int) -> None:
        self._pool = pool
        self._hot = hot
        self._partition_count = partition_count

    async def read(self, video_id: str, event_type: str, minutes: MinuteRange, *, is_strong: bool) -> Reading:
        """The aggregate of one video and event type over a range. Raises Unavailable when Postgres is away."""
        with reaching_postgres():
            if is_strong:
                partition = partition_of(video_id, self._partition_count)
                return await read_everything(self._pool, video_id, event_type, minutes, partition)
            if not minutes.is_unbounded:
                return await read_rollups(self._pool, video_id, event_type, minutes)
            reading = await self._hot.get(video_id, event_type)
            if reading is None:
                reading = await read_rollups(self._pool, video_id, event_type, minutes)
                await self._hot.put(video_id, event_type, reading)
            return reading
