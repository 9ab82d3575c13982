"""The transport to a shard by gRPC: entries of many requests share a call, and a call is under way nearly always."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from libs.domain.clock import Clock
from libs.domain.entry import Entry, Outcome
from libs.rpc.stopping import Stopped, Stopping
from libs.rpc.tracebacks import drop_tracebacks
from services.partitioner.routing.wire import write_entry
from services.partitioner.settings import SenderSettings
from tally.common.v1.common_pb2 import ClusterIdentity
from tally.contract.breaker import Breaker
from tally.contract.errors import DeadlineExceeded, Overloaded, TallyError, Unavailable
from tally.counting.v1.counting_pb2 import AppendRequest, AppendResponse

Append = Callable[[AppendRequest, float], Awaitable[AppendResponse]]
"""Calls the shard with a request and a timeout in seconds. Raises TallyError."""

_LOGGER = structlog.get_logger(__name__)

_RETRY_AFTER_S = 0.2
_IDLE_SECONDS = 0.02
_KNOWN = {outcome.value: outcome for outcome in Outcome}


@dataclass(slots=True, eq=False)
class PendingEntry:
    """An entry, until when its caller waits, and the future of its outcome."""

    entry: Entry
    deadline: float
    """monotonic seconds"""
    outcome: asyncio.Future[Outcome]


class RemoteTransport:
    """Sends entries to one shard. Without calls under way an entry leaves at once; otherwise it shares the next."""

    def __init__(
        self,
        address: str,
        cluster: ClusterIdentity,
        append: Append,
        breaker: Breaker,
        settings: SenderSettings,
        clock: Clock,
    ) -> None:
        self.address = address
        self._cluster = cluster
        self._append = append
        self._breaker = breaker
        self._settings = settings
        self._clock = clock
        self._waiting: deque[PendingEntry] = deque()
        self._waiting_bytes = 0
        self._has_some = asyncio.Event()
        self._calls_under_way = 0
        self._giving_up = Stopping()

    async def until_idle(self) -> None:
        """Wait until all calls and queued entries have ended."""
        while self._waiting or self._calls_under_way:  # noqa: ASYNC110 - an event would cost something at every send
            await asyncio.sleep(_IDLE_SECONDS)

    def send(self, entries: Sequence[Entry], deadline: float) -> list[asyncio.Future[Outcome]]:
        """Queue entries, all or none; the outcome of each, in order, or a TallyError of the call.

        Raises Overloaded when there is no room.
        """
        arriving = sum(entry.size_bytes for entry in entries)
        if self._waiting_bytes + arriving > self._settings.max_waiting_bytes:
            raise Overloaded(
                "too many events wait for their shard; send the same request again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        loop = asyncio.get_running_loop()
        pending = [PendingEntry(entry, deadline, loop.create_future()) for entry in entries]
        self._waiting.extend(pending)
        self._waiting_bytes += arriving
        self._has_some.set()
        return [each.outcome for each in pending]

    async def run(self) -> None:
        """Make calls without end; run one of these for each allowed concurrent call."""
        while True:
            await self._has_some.wait()
            if taken := self._take():
                self._calls_under_way += 1
                try:
                    await self._call(taken)
                finally:
                    self._calls_under_way -= 1

    def give_up(self, error: Unavailable) -> None:
        """Fail all queued entries and calls under way, so that another shard can take them.

        The shard may journal what it was sent all the same; the key tells then.
        """
        given_up = list(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._has_some.clear()
        _fail(given_up, error)
        given_up_now, self._giving_up = self._giving_up, Stopping()
        given_up_now.begin()

    def _take(self) -> list[PendingEntry]:
        taken: list[PendingEntry] = []
        size = events = 0
        while self._waiting and len(taken) < self._settings.max_call_entries:
            size += self._waiting[0].entry.size_bytes
            events += len(self._waiting[0].entry.events)
            if taken and (size > self._settings.max_call_bytes or events > self._settings.max_call_events):
                break
            pending = self._waiting.popleft()
            self._waiting_bytes -= pending.entry.size_bytes
            if not pending.outcome.done():
                taken.append(pending)
        if not self._waiting:
            self._has_some.clear()
        return taken

    async def _call(self, taken: Sequence[PendingEntry]) -> None:
        request = AppendRequest(cluster=self._cluster, entries=[write_entry(each.entry) for each in taken])
        left_s = max(each.deadline for each in taken) - self._clock.monotonic()
        timeout_s = max(0.001, min(self._settings.attempt_timeout_seconds, left_s))
        # Short deadlines of one caller must not open the circuit to the shard for all callers.
        silent = (DeadlineExceeded,) if timeout_s < self._settings.attempt_timeout_seconds else ()
        try:
            outcomes = await self._giving_up.unless_stopped(
                self._breaker.call(lambda: self._ask(request, timeout_s), silent=silent)
            )
        except TallyError as error:
            _fail(taken, error)
            return
        except Stopped:
            _fail(taken, Unavailable(f"shard {self.address} was given up"))
            return
        except asyncio.CancelledError:  # this transport is closed; there may be others
            _fail(taken, Unavailable(f"the connection to shard {self.address} was closed"))
            if _is_cancelled():
                raise
            return
        except Exception as error:  # noqa: BLE001 - whatever a shard may answer, the loop and the other shards go on
            _LOGGER.warning("shard answered what cannot be read", shard=self.address, error=repr(error))
            _fail(taken, Unavailable(f"the answer of shard {self.address} cannot be read ({error!r})"))
            return
        for each, outcome in zip(taken, outcomes, strict=True):
            if not each.outcome.done():
                each.outcome.set_result(outcome)

    async def _ask(self, request: AppendRequest, timeout_s: float) -> list[Outcome]:
        """The outcome of each entry. Raises Unavailable if the answer lacks some outcomes."""
        response = await self._append(request, timeout_s)
        if len(response.outcomes) != len(request.entries):
            raise Unavailable(
                f"shard {self.address} answered for {len(response.outcomes)} entries, and was sent "
                f"{len(request.entries)}"
            )
        try:
            return [_KNOWN[outcome] for outcome in response.outcomes]
        except KeyError as error:
            raise Unavailable(f"shard {self.address} answered with the unknown outcome {error}") from error


def _is_cancelled() -> bool:
    """Whether this task is being cancelled, and not only a call within it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fail(pending: Iterable[PendingEntry], error: TallyError) -> None:
    drop_tracebacks(
        error
    )  # each future would keep the frames of the call, and so its request and all of `pending`
    for each in pending:
        if not each.outcome.done():
            each.outcome.set_exception(error)
            each.outcome.exception()  # retrieved, in case the caller stops waiting just now
