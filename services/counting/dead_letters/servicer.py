"""DeadLetterService: protobuf ↔ letters and decisions."""

from collections.abc import Mapping
from typing import Any

from libs.rpc.cluster_identity import ClusterCheck
from libs.rpc.columns import parse
from libs.rpc.types import ServicerContext
from libs.stores.postgres import reaching_postgres
from services.counting.dead_letters.decisions import Decisions
from services.counting.dead_letters.letters import Cursor, Key, State, list_letters, not_found, read_letter
from services.counting.dead_letters.wire import (
    first_events,
    first_video_id,
    read_key,
    read_token,
    write_token,
)
from tally.contract.errors import InvalidRequest, Violation
from tally.counting.v1 import dead_letters_pb2 as pb
from tally.counting.v1.dead_letters_pb2_grpc import DeadLetterServiceServicer

_STATES: Mapping[int, State] = {
    pb.DEAD_LETTER_STATE_WAITING: State.WAITING,
    pb.DEAD_LETTER_STATE_REPLAYED: State.REPLAYED,
    pb.DEAD_LETTER_STATE_DROPPED: State.DROPPED,
}
_PAGE, _LARGEST_PAGE = 50, 1_000
_EVENTS, _MOST_EVENTS = 100, 10_000


class DeadLetterServicer(DeadLetterServiceServicer):
    """Serves the dead letters of the cluster."""

    def __init__(self, pool: Any, decisions: Decisions, cluster: ClusterCheck) -> None:
        """`pool`: for reads."""
        self._pool = pool
        self._decisions = decisions
        self._cluster = cluster

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: ServicerContext
    ) -> pb.ListDeadLettersResponse:
        self._cluster.check(request.cluster)
        state = _read_state(request.state)
        size = _read_limit(request.page_size, "page_size", _PAGE, _LARGEST_PAGE)
        after = read_token(request.page_token, state)
        with reaching_postgres():
            rows = await list_letters(self._pool, state, after, size + 1)
        page = rows[:size]
        token = write_token(state, _cursor_of(page[-1])) if len(rows) > size else ""
        return pb.ListDeadLettersResponse(dead_letters=map(_message_of, page), next_page_token=token)

    async def GetDeadLetter(
        self, request: pb.GetDeadLetterRequest, context: ServicerContext
    ) -> pb.GetDeadLetterResponse:
        self._cluster.check(request.cluster)
        key = read_key(request.id)
        limit = _read_limit(request.max_events, "max_events", _EVENTS, _MOST_EVENTS)
        with reaching_postgres():
            row = await read_letter(self._pool, key)
        if row is None:
            raise not_found(key)
        response = pb.GetDeadLetterResponse(dead_letter=_message_of(row))
        _add_events(response, row["payload"], limit)
        return response

    async def ReplayDeadLetter(
        self, request: pb.ReplayDeadLetterRequest, context: ServicerContext
    ) -> pb.ReplayDeadLetterResponse:
        self._cluster.check(request.cluster)
        decision = await self._decisions.replay(read_key(request.id))
        return pb.ReplayDeadLetterResponse(
            dead_letter=_message_of(decision.letter), was_decided=decision.was_decided
        )

    async def DropDeadLetter(
        self, request: pb.DropDeadLetterRequest, context: ServicerContext
    ) -> pb.DropDeadLetterResponse:
        self._cluster.check(request.cluster)
        decision = await self._decisions.drop(read_key(request.id))
        return pb.DropDeadLetterResponse(
            dead_letter=_message_of(decision.letter), was_decided=decision.was_decided
        )


def _read_state(number: int) -> State | None:
    if number and number not in _STATES:
        raise InvalidRequest([Violation("state", f"is {number}, which is no state of this api")])
    return _STATES.get(number)


def _read_limit(number: int, field: str, default: int, most: int) -> int:
    if number < 0:
        raise InvalidRequest([Violation(field, "must not be negative")])
    return min(number or default, most)


def _cursor_of(row: Any) -> Cursor:
    return Cursor(row["created_at"], Key(row["request_id"], row["partition"]))


def _message_of(row: Any) -> pb.DeadLetter:
    return pb.DeadLetter(
        id=str(Key(row["request_id"], row["partition"])),
        state=f"DEAD_LETTER_STATE_{row['state'].upper()}",  # a message takes the name for the number
        reason=row["reason"],
        event_count=row["events"],
        video_id=first_video_id(row["beginning"]),
        receive_time=row["received_at"],
        create_time=row["created_at"],
        decide_time=row["decided_at"],
        note=row["note"],
        log_id=row["log_id"],
        seq=row["seq"],
    )


def _add_events(response: pb.GetDeadLetterResponse, payload: bytes, limit: int) -> None:
    """An unreadable payload is reported in the response, and is not an error of the call."""
    try:
        response.events.extend(first_events(parse(payload, "payload"), limit))
    except InvalidRequest as error:
        response.problem = error.message
