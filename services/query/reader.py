"""Chooses the source of an answer: Valkey for totals, Postgres for the rest, the journal too for strong reads."""

from typing import Any

from libs.domain.partition import partition_of
from libs.stores.postgres import reaching_postgres
from libs.stores.schema import Cluster
from libs.telemetry import catalogue
from libs.telemetry.setup import OFF, Telemetry
from services.query.hot import Hot
from services.query.pending import read_everything
from services.query.question import Question, Size
from services.query.regions import Part, World, read_home, read_parts
from services.query.server import Server
from services.query.warm import Reading, read_rollups

_FROM_VALKEY, _FROM_ROLLUPS, _FROM_JOURNAL = ({"source": name} for name in ("valkey", "rollups", "journal"))


class Reader:
    """Reads for one cluster. `primary` answers strong reads, where `local` may be a standby."""

    def __init__(
        self, local: Server, primary: Server, hot: Hot, cluster: Cluster, telemetry: Telemetry = OFF
    ) -> None:
        self._reads = catalogue.counter(telemetry.meter, catalogue.READS)
        self._own = cluster.cluster_id
        self._local = local
        self._primary = primary
        self._hot = hot
        self._partition_count = cluster.partition_count

    async def read(self, question: Question, caller: str, *, is_strong: bool) -> Reading:
        """The answer to `caller`, an address.

        Raises Unavailable when Postgres is unreachable, Overloaded and ReadTooLarge when it would be too much work, and
        NotPrimary for a strong read when only a standby is there.
        """
        with reaching_postgres():
            if is_strong:
                return await self._read_everything(question, caller)
            if not question.minutes.is_unbounded:
                return await self._read_rollups(question, caller)
            held = await self._hot.get(question.video_id, question.event_type)
            if held.reading is not None:
                self._reads.add(1, _FROM_VALKEY)
                return held.reading
            reading = await self._read_rollups(question, caller)
            await self._hot.put(question.video_id, question.event_type, reading, held)
            return reading

    async def read_world(self, question: Question, caller: str, *, is_strong: bool) -> World:
        """The part of each region. Strong is for this region alone; of the others it is what is here of them.

        Raises what `read` raises.
        """
        home = await self.read(question, caller, is_strong=is_strong)
        server = self._local
        with reaching_postgres():
            device, name = await read_home(server.pool, self._own)

            async def read(connection: Any, size: Size) -> list[Part]:
                return await read_parts(connection, question, size)

            others = await server.read(question, caller, read, is_strong=False)
        return World([Part(device, name, True, home, True, is_strong), *others])

    async def _read_rollups(self, question: Question, caller: str) -> Reading:
        server = self._local
        self._reads.add(1, _FROM_ROLLUPS)

        async def read(connection: Any, size: Size) -> Reading:
            return await read_rollups(connection, server.unsettled, question, size)

        return await server.read(question, caller, read, is_strong=False)

    async def _read_everything(self, question: Question, caller: str) -> Reading:
        self._reads.add(1, _FROM_JOURNAL)
        server, partition = self._primary, partition_of(question.video_id, self._partition_count)

        async def read(connection: Any, size: Size) -> Reading:
            return await read_everything(connection, server.unsettled, question, size, partition)

        return await server.read(question, caller, read, is_strong=True)
