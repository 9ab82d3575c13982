"""The transport of direct mode: sends batches to the shards, without the partitioner.

    cut into entries ──► an Append for each shard, all at once ──► all durable: a receipt
                                                              └──► else: the whole batch by ProcessEvents

The entries are the same as those of the partitioner, and a shard checks them. So a batch may go either way, or both
ways: an entry that is already durable is a duplicate. After any failure the batch goes to the partitioner, within the
same attempt: no map, a shard that is silent, moved or unreachable from here, a batch that breaks a rule.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tally.client._calls.connection import Connection
from tally.client._delivery.doubt import may_have_counted
from tally.client._delivery.entries import cut
from tally.client._delivery.shards import Shard, Shards
from tally.client._delivery.unary import UnaryTransport
from tally.client.answers import Cluster, Durability, Receipt
from tally.client.columns import Batch
from tally.client.errors import OutcomeUnknown
from tally.contract.errors import Overloaded, RequestIdReused, TallyError
from tally.counting.v1 import counting_pb2
from tally.counting.v1.counting_pb2 import Entry, Outcome

_DURABLE = frozenset(
    (counting_pb2.OUTCOME_JOURNALED, counting_pb2.OUTCOME_DUPLICATE, counting_pb2.OUTCOME_SPOOLED)
)
_NOT_COUNTED = frozenset(
    (
        counting_pb2.OUTCOME_BELOW_FLOOR,
        counting_pb2.OUTCOME_CONTENT_MISMATCH,
        counting_pb2.OUTCOME_INVALID,
    )
)
_MAP_SHARE, _SHARDS_SHARE = 0.25, 0.5
"""How much of an attempt's time is for the first map, and of the rest for the shards."""
_PATIENCE_S = 8.0
"""With a shard. One that answers late but well must not be given up: the partitioner has as much patience."""
_LATE_S = 1.0
"""After so long without an answer it is time to ask whether the shards are still the same."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one shard was sent, and its answer: outcomes, or an error."""

    entries: Sequence[Entry]
    outcomes: Sequence[Outcome]
    error: TallyError | None = None

    @property
    def is_durable(self) -> bool:
        return self.error is None and _DURABLE.issuperset(self.outcomes)

    @property
    def may_have_counted(self) -> bool:
        """Whether any of it is durable, or may be."""
        if self.error is not None:
            return may_have_counted(self.error)
        return not _NOT_COUNTED.issuperset(self.outcomes)


class DirectTransport:
    """Sends each batch to its shards; see tally.client._delivery.transport.

    A receipt after a fallback is the partitioner's: what a shard had journaled a moment before is in its
    `duplicate_count`, as after a retry.

    A request id older than 24 hours the partitioner refuses, a shard only when it is below the floor, half an hour
    later. That is harmless: above the floor the journal remembers every id, so the events count once, and an id below
    it is refused by the insert itself.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._partitioner = UnaryTransport(connection)
        self._shards = Shards(connection)

    async def send(self, batch: Batch, timeout_s: float) -> Receipt:
        self._connection.check_usable()
        now = asyncio.get_running_loop().time
        deadline = now() + timeout_s
        parts = await self._append(batch, deadline)
        if parts and all(part.is_durable for part in parts):
            return _receipt(batch, parts)
        is_in_doubt = any(part.may_have_counted for part in parts)
        for part in parts:
            # A shard that sheds load would get the same from the partitioner, which would be told the same.
            if isinstance(part.error, Overloaded) and part.error.reason == "OVERLOADED":
                raise _of_a_part(part.error) if is_in_doubt else part.error
        try:
            return await self._partitioner.send(batch, deadline - now())
        except (OutcomeUnknown, RequestIdReused):
            raise
        except TallyError as error:
            if not is_in_doubt:
                raise
            if isinstance(error, Overloaded):
                raise _of_a_part(error) from error
            raise _in_doubt(batch, error) from error

    async def close(self, patience_s: float) -> None:
        await self._shards.close(patience_s)

    async def _append(self, batch: Batch, deadline: float) -> list[_Part]:
        """Send the entries to their shards; none of them if any cannot be sent."""
        now = asyncio.get_running_loop().time
        leaders = await self._shards.find_leaders((deadline - now()) * _MAP_SHARE)
        if leaders is None:
            return []
        try:
            entries = cut(batch, leaders.cluster.partition_count)
        except ValueError:
            return []
        by_shard: dict[Shard, list[Entry]] = {}
        for entry in entries:
            shard = leaders.by_partition.get(entry.partition)
            if shard is None or shard.is_resting:
                return []
            by_shard.setdefault(shard, []).append(entry)
        timeout_s = min(_PATIENCE_S, (deadline - now()) * _SHARDS_SHARE)
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(_append(shard, leaders.cluster, part, timeout_s, batch.request_id))
                for shard, part in by_shard.items()
            ]
            # A late shard may be one that the map has lost; then its connection is closed, and that ends the call.
            while (await asyncio.wait(calls, timeout=_LATE_S))[1]:
                self._shards.ask_if_due(is_late=True)
        self._shards.ask_if_due()
        return [call.result() for call in calls]


async def _append(
    shard: Shard, cluster: Cluster, entries: Sequence[Entry], timeout_s: float, request_id: str
) -> _Part:
    try:
        outcomes = await shard.append(cluster, entries, timeout_s, request_id)
    except TallyError as error:
        return _Part(entries, (), error)
    return _Part(entries, outcomes)


def _receipt(batch: Batch, parts: Sequence[_Part]) -> Receipt:
    """The receipt of a batch whose entries are all durable, with counts as from the partitioner."""
    outcomes = [
        (entry.event_count, outcome)
        for part in parts
        for entry, outcome in zip(part.entries, part.outcomes, strict=True)
    ]
    duplicate = sum(events for events, outcome in outcomes if outcome == counting_pb2.OUTCOME_DUPLICATE)
    is_spooled = any(outcome == counting_pb2.OUTCOME_SPOOLED for _, outcome in outcomes)
    return Receipt(
        batch.request_id,
        len(batch.columns) - duplicate,
        duplicate,
        Durability.SPOOLED if is_spooled else Durability.JOURNALED,
    )


def _of_a_part(error: Overloaded) -> Overloaded:
    """The error for the whole batch, without `nothing_done`: that holds only for the part that was refused."""
    return Overloaded.received(
        error.message, reason=error.reason, retry_after_s=error.retry_after_s, request_ids=error.request_ids
    )


def _in_doubt(batch: Batch, error: TallyError) -> OutcomeUnknown:
    """The partitioner refused what the shards may have counted a part of."""
    return OutcomeUnknown(
        f"a part of the request may have been counted by its shards, and then it was refused: {error.message}",
        reason=error.reason,
        metadata=error.metadata,
        violations=error.violations,
        request_ids=(batch.request_id,),
    )
