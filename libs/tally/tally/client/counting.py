"""Dead letters for operators: entries that could not be counted and wait for a decision."""

# ruff: noqa: ASYNC109 - the service is told the deadline of a call, and asyncio.timeout would keep it here

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from tally.client._calls.connection import Connection
from tally.client._calls.methods import GET_CLUSTER, Answer, Method
from tally.client._calls.namespace import Namespace
from tally.client._checks.times import from_timestamp
from tally.client.answers import Cluster
from tally.client.events import Event
from tally.contract.errors import ClusterMismatch, InvalidRequest
from tally.counting.v1 import dead_letters_pb2 as pb
from tally.counting.v1.counting_pb2 import GetClusterRequest
from tally.ingest.v1 import ingest_pb2

DECISION_TIMEOUT_S = 15.0
"""A replay is a transaction that may have to wait for others."""

_SERVICE = "/tally.counting.v1.DeadLetterService"
LIST = Method(f"{_SERVICE}/ListDeadLetters", pb.ListDeadLettersRequest, pb.ListDeadLettersResponse.FromString)
GET = Method(f"{_SERVICE}/GetDeadLetter", pb.GetDeadLetterRequest, pb.GetDeadLetterResponse.FromString)
REPLAY = Method(
    f"{_SERVICE}/ReplayDeadLetter", pb.ReplayDeadLetterRequest, pb.ReplayDeadLetterResponse.FromString
)
DROP = Method(f"{_SERVICE}/DropDeadLetter", pb.DropDeadLetterRequest, pb.DropDeadLetterResponse.FromString)


_LetterRequest = TypeVar(
    "_LetterRequest",
    pb.ListDeadLettersRequest,
    pb.GetDeadLetterRequest,
    pb.ReplayDeadLetterRequest,
    pb.DropDeadLetterRequest,
)


class DeadLetterState(StrEnum):
    """The outcome of a dead letter."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DROPPED = "dropped"
    UNSPECIFIED = "unspecified"
    """sent by a service that is newer than this client"""


_STATES = {
    DeadLetterState.WAITING: pb.DEAD_LETTER_STATE_WAITING,
    DeadLetterState.REPLAYED: pb.DEAD_LETTER_STATE_REPLAYED,
    DeadLetterState.DROPPED: pb.DEAD_LETTER_STATE_DROPPED,
}
_NAMES = {number: state for state, number in _STATES.items()}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that could not be counted: the events of one request in one partition.

    `id`: the request id, a slash, the partition. `video_id`: the first that it names; empty when it cannot be read.
    `note`: what was found when it was decided. `log_id` and `seq`: None when it was never in the journal.
    """

    id: str
    state: DeadLetterState
    reason: str
    event_count: int
    video_id: str
    receive_time: datetime
    create_time: datetime
    decide_time: datetime | None
    note: str
    log_id: int | None
    seq: int | None

    @classmethod
    def from_message(cls, message: pb.DeadLetter) -> "DeadLetter":
        return cls(
            id=message.id,
            state=_NAMES.get(message.state, DeadLetterState.UNSPECIFIED),
            reason=message.reason,
            event_count=message.event_count,
            video_id=message.video_id,
            receive_time=from_timestamp(message.receive_time),
            create_time=from_timestamp(message.create_time),
            decide_time=from_timestamp(message.decide_time) if message.HasField("decide_time") else None,
            note=message.note,
            log_id=message.log_id if message.HasField("log_id") else None,
            seq=message.seq if message.HasField("seq") else None,
        )


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Some letters, oldest first, and what asks for those after them: empty when there are none."""

    letters: tuple[DeadLetter, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class DeadLetterContent:
    """A letter and its first events. `problem`: why it cannot be read; empty when it can."""

    letter: DeadLetter
    events: tuple[Event, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A letter that is decided. `was_decided`: in the same way before this call, which then changed nothing."""

    letter: DeadLetter
    was_decided: bool


class Counting(Namespace):
    """The part of tally.client.Client that speaks to a shard, at its own address: `client.counting`. The client has
    these methods itself, too.

    Each call about dead letters carries the identity of the cluster. The client asks the shard for it once, so that a
    service of another cluster, which is reached at this address later on, refuses: ClusterMismatch.
    """

    def __init__(self, opened: Callable[[], Connection]) -> None:
        super().__init__(opened)
        self._letters_of: Cluster | None = None

    async def get_cluster(self, *, timeout: float | None = None) -> Cluster:
        """The cluster of the shard that answers. The partition map of a partitioner has the partitioner's."""
        answer = await self._open().call(GET_CLUSTER, GetClusterRequest(), timeout)
        return Cluster.from_message(answer.cluster)

    async def list_dead_letters(
        self,
        *,
        state: DeadLetterState | str | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> DeadLetterPage:
        """A page of letters, oldest first: those in a state, or all. `page_size`: 0 is 50; 1,000 at most."""
        request = pb.ListDeadLettersRequest(page_size=page_size, page_token=page_token, state=_number(state))
        answer = await self._call_shard(LIST, request, timeout)
        return DeadLetterPage(
            tuple(map(DeadLetter.from_message, answer.dead_letters)), answer.next_page_token
        )

    async def get_dead_letter(
        self, letter_id: str, *, max_events: int = 0, timeout: float | None = None
    ) -> DeadLetterContent:
        """A letter and its first events. `max_events`: 0 is 100; 10,000 at most. Raises NotFound."""
        request = pb.GetDeadLetterRequest(id=letter_id, max_events=max_events)
        answer = await self._call_shard(GET, request, timeout)
        return DeadLetterContent(
            DeadLetter.from_message(answer.dead_letter), tuple(map(_event, answer.events)), answer.problem
        )

    async def replay_dead_letter(self, letter_id: str, *, timeout: float = DECISION_TIMEOUT_S) -> Decision:
        """Count the events of a letter, once. After a call without an answer ask again.

        The letter comes back dropped when its entry turns out to be counted already; its note says so. Raises NotFound,
        AlreadyDecided when it was dropped before, and NotReplayable when it cannot be counted: it then stays as it is.
        """
        answer = await self._call_shard(REPLAY, pb.ReplayDeadLetterRequest(id=letter_id), timeout)
        return Decision(DeadLetter.from_message(answer.dead_letter), answer.was_decided)

    async def drop_dead_letter(self, letter_id: str, *, timeout: float = DECISION_TIMEOUT_S) -> Decision:
        """Decide that a letter is not to be counted; it is kept. Raises NotFound, and AlreadyDecided."""
        answer = await self._call_shard(DROP, pb.DropDeadLetterRequest(id=letter_id), timeout)
        return Decision(DeadLetter.from_message(answer.dead_letter), answer.was_decided)

    async def _call_shard(
        self, method: Method[_LetterRequest, Answer], request: _LetterRequest, timeout: float | None
    ) -> Answer:
        if self._letters_of is None:
            self._letters_of = await self.get_cluster(timeout=timeout)
        request.cluster.CopyFrom(self._letters_of.to_message())
        try:
            return await self._open().call(method, request, timeout)
        except ClusterMismatch:
            self._letters_of = None  # who calls again accepts the cluster that is there now
            raise


def _number(state: DeadLetterState | str | None) -> pb.DeadLetterState:
    if state is None:
        return pb.DEAD_LETTER_STATE_UNSPECIFIED
    try:
        return _STATES[DeadLetterState(state)]
    except (KeyError, ValueError):
        raise InvalidRequest.of("state", f"{state!r} is none of {', '.join(_STATES)}") from None


def _event(message: ingest_pb2.Event) -> Event:
    return Event(
        video_id=message.video_id,
        event_type=message.event_type,
        event_time=from_timestamp(message.event_time) if message.HasField("event_time") else None,
        value=message.value if message.HasField("value") else None,
        actor_id=message.actor_id,
    )
