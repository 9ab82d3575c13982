"""The shards of direct mode: the partition map of the client's partitioner, and a connection to each shard in it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tally.client._calls import methods
from tally.client._calls.connection import Connection
from tally.client.answers import Cluster, PartitionMap
from tally.client.errors import OutcomeUnknown
from tally.contract.backoff import Backoff
from tally.contract.errors import InvalidRequest, Overloaded, TallyError
from tally.counting.v1.counting_pb2 import OUTCOME_UNAVAILABLE, AppendRequest, Entry, Outcome

_MAP_AGE_S = 30.0
"""The map is asked for again when it is as old as this"""
_DOUBTED_MAP_AGE_S = 1.0
"""or this, while it leads nowhere."""
_MAP_TIMEOUT_S = 5.0
_REST = Backoff(first_s=1.0, longest_s=60.0)
_FAIR_S = 1.0
"""A timeout of a call that had less time than this is no failure of the shard."""
_LEAVE_S = 1.0
"""A shard that the map has lost may answer for so long what it was sent before."""
_LOGGER = logging.getLogger("tally.client")


class Shard:
    """One shard. After a call that failed it rests, longer each time; then one call finds out how it is."""

    def __init__(self, connection: Connection, now: Callable[[], float]) -> None:
        self.connection = connection
        self._now = now
        self._failures = 0
        self._failed_at = self._rests_until = now()

    @property
    def is_doubted(self) -> bool:
        """Whether the last that is known of it is a failure."""
        return self._failures > 0

    @property
    def is_resting(self) -> bool:
        """Whether it should not be called."""
        return self.is_doubted and self._now() < self._rests_until

    async def append(
        self, cluster: Cluster, entries: Sequence[Entry], timeout_s: float, request_id: str
    ) -> Sequence[Outcome]:
        """Send entries of one request; the outcome of each, in order.

        Raises TallyError; what Transport.send says of OutcomeUnknown and Overloaded holds for these entries.
        """
        request = AppendRequest(cluster=cluster.to_message(), entries=entries).SerializeToString()
        began = self._now()
        # If it is doubted, the other batches go elsewhere until this one has found out.
        self._rests_until = began + timeout_s
        try:
            response = await self.connection.attempt(
                methods.APPEND, request, timeout_s, request_id=request_id
            )
        except (InvalidRequest, Overloaded):
            self.recover()
            raise
        except TallyError as error:
            if error.reason != "DEADLINE_EXCEEDED" or timeout_s >= _FAIR_S:
                self._fail(began)
            raise
        outcomes = (
            response.outcomes if response else ()
        )  # grpc.aio returns None for an answer that does not parse
        if len(outcomes) != len(entries):
            self._fail(began)
            raise OutcomeUnknown(
                f"{self.connection.address} answered for {len(outcomes)} entries of {len(entries)}",
                request_ids=(request_id,),
            )
        if OUTCOME_UNAVAILABLE in outcomes:
            self._fail(began)
        else:
            self.recover()
        return outcomes

    def recover(self) -> None:
        """Think well of it again."""
        self._failures = 0

    def _fail(self, began: float) -> None:
        if self._failures and began < self._failed_at:
            return  # it was under way when another failed, and says no more than that
        self._failures += 1
        self._failed_at = self._now()
        self._rests_until = self._failed_at + _REST.cap_s(self._failures - 1)


@dataclass(frozen=True, slots=True)
class Leaders:
    """Which shard leads which partition, as of one map."""

    cluster: Cluster
    version: str
    by_partition: Mapping[int, Shard]


class Shards:
    """Keeps the map and the connections. Belongs to one event loop."""

    def __init__(self, partitioner: Connection) -> None:
        self._partitioner = partitioner
        self._now = asyncio.get_running_loop().time
        self._known: dict[str, Shard] = {}
        self._leaders: Leaders | None = None
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def find_leaders(self, patience_s: float) -> Leaders | None:
        """The last known map; waits for the first one. None: the partitioner has none."""
        self.ask_if_due()
        if self._leaders is None and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=patience_s)
        return self._leaders

    def ask_if_due(self, *, is_late: bool = False) -> None:
        """Ask for the map in the background if it is old, sooner if a shard failed or is late; once at a time."""
        is_doubted = (
            is_late or self._leaders is None or any(shard.is_doubted for shard in self._known.values())
        )
        age_s = self._now() - self._asked_at
        if self._is_closed or self._asking or age_s < (_DOUBTED_MAP_AGE_S if is_doubted else _MAP_AGE_S):
            return
        self._asked_at = self._now()
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def close(self, patience_s: float) -> None:
        """Wait for the calls under way, then end them."""
        self._is_closed = True
        self._leaders = None
        if self._asking is not None:
            self._asking.cancel()
        closing = [shard.connection.close(patience_s) for shard in self._known.values()]
        tasks = [self._asking] if self._asking else []
        await asyncio.gather(*closing, *tasks, *self._leaving, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            answer = await self._partitioner.attempt(methods.GET_PARTITION_MAP, b"", _MAP_TIMEOUT_S)
            self._take(PartitionMap.from_message(answer))
        except TallyError as error:
            _LOGGER.debug("no partition map: %s", error.message)
        finally:
            self._asking = None

    def _take(self, partition_map: PartitionMap) -> None:
        cluster = partition_map.cluster
        if cluster is None or cluster.partition_count < 1:
            return  # of an older service: its shards would be told no cluster; everything goes to the partitioner
        addresses = {shard.address for shard in partition_map.shards if shard.partitions}
        for address in self._known.keys() - addresses:
            self._forget(self._known.pop(address))
        for address in addresses - self._known.keys():
            self._known[address] = Shard(self._partitioner.to(address), self._now)
        if self._leaders is not None and self._leaders.version != partition_map.version:
            for shard in self._known.values():
                shard.recover()
        by_partition = {
            partition: self._known[shard.address]
            for shard in partition_map.shards
            for partition in shard.partitions
        }
        self._leaders = Leaders(cluster, partition_map.version, by_partition)

    def _forget(self, shard: Shard) -> None:
        leaving = asyncio.get_running_loop().create_task(shard.connection.close(_LEAVE_S))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
