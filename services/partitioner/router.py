"""From entries to shards: each entry to the leader of its partition, then to whoever ranks next."""

import asyncio
import random
from collections.abc import Mapping, Sequence

import xxhash

from libs.domain.clock import Clock
from libs.domain.errors import DeadlineExpired, Overloaded, TallyError, Unavailable
from libs.domain.placement import place_partitions
from libs.rpc.deadline import call_timeout
from services.partitioner.sender import Sender
from services.partitioner.settings import PartitionerSettings
from tally.counting.v1.counting_pb2 import OUTCOME_UNAVAILABLE, Entry, Outcome

_DEADLINE_CAP_S = 60.0
_SHAVE_S = 0.01


class Router:
    """Knows the shards and which of them leads which partitions."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        partition_count: int,
        settings: PartitionerSettings,
        clock: Clock,
    ) -> None:
        self._senders = senders
        self._settings = settings
        self._clock = clock
        self.partition_count = partition_count
        self.placement = place_partitions(partition_count, list(senders))
        self.version = xxhash.xxh3_64_hexdigest(repr(sorted(senders)).encode())
        """changes whenever the placement does"""

    def led_by(self, address: str) -> list[int]:
        """The partitions that a shard leads, ascending."""
        return [partition for partition, ranked in self.placement.items() if ranked[0] == address]

    @property
    def addresses(self) -> list[str]:
        return list(self._senders)

    async def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Send all entries; the outcome of each, in order, none of them UNAVAILABLE.

        Raises Overloaded as soon as a shard says so, Unavailable when no shard has taken an entry in all
        rounds, and DeadlineExpired. The same entries may be sent again after each of them.
        """
        deadline = self._clock.monotonic() + call_timeout(_DEADLINE_CAP_S, _SHAVE_S)
        outcomes: list[Outcome] = [OUTCOME_UNAVAILABLE] * len(entries)
        missing = list(range(len(entries)))
        last_error: TallyError = Unavailable("no counting shard could take the request; send it again")
        for attempt in range(len(self._senders) * self._settings.max_rounds):
            if attempt and not attempt % len(self._senders):
                await self._pause(attempt // len(self._senders), deadline)
            sent = self._send([(place, entries[place]) for place in missing], attempt, deadline)
            answers = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
            for (place, _), answer in zip(sent, answers, strict=True):
                if not isinstance(answer, BaseException):
                    outcomes[place] = answer
                elif isinstance(answer, Unavailable | DeadlineExpired):
                    last_error = answer
                else:
                    raise answer
            missing = [place for place in missing if outcomes[place] == OUTCOME_UNAVAILABLE]
            if not missing:
                return outcomes
            if self._clock.monotonic() >= deadline:
                raise DeadlineExpired("not every event was durable in time; send the same request again")
        raise Unavailable(last_error.message)

    def _send(
        self, entries: Sequence[tuple[int, Entry]], attempt: int, deadline: float
    ) -> list[tuple[int, asyncio.Future[Outcome]]]:
        by_shard: dict[str, list[tuple[int, Entry]]] = {}
        for place, entry in entries:
            ranked = self.placement[entry.partition]
            by_shard.setdefault(ranked[attempt % len(ranked)], []).append((place, entry))
        sent: list[tuple[int, asyncio.Future[Outcome]]] = []
        for address, placed in by_shard.items():
            try:
                futures = self._senders[address].send([entry for _, entry in placed], deadline)
            except Overloaded:
                for _, outcome in sent:  # nobody waits for them any more
                    outcome.cancel()
                raise
            sent.extend(zip((place for place, _ in placed), futures, strict=True))
        return sent

    async def _pause(self, rounds: int, deadline: float) -> None:
        """Full jitter: a random part of a pause that doubles with each round, and never past the deadline."""
        longest = self._settings.round_backoff_seconds * 2 ** (rounds - 1)
        pause = random.uniform(0, longest)  # noqa: S311 - jitter is no secret
        await asyncio.sleep(min(pause, max(0.0, deadline - self._clock.monotonic())))
