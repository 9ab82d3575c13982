"""Sending pieces, a few at once, each until it has an answer."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from services.cli.calling import is_in_doubt
from services.cli.pieces import Piece, ReplayIds
from tally.client import Columns, Receipt, TallyError
from tally.client.blocking import Client

IN_FLIGHT = 4
_ATTEMPT_S = 20.0
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a piece: it has a receipt, or an error."""

    piece: Piece
    receipt: Receipt | None = None
    error: TallyError | None = None


class Sender:
    """Sends pieces of one replay. The id of each is made once; every attempt sends the same under it."""

    def __init__(self, client: Client, ids: ReplayIds, patience_s: float) -> None:
        """`patience_s`: for how long a piece without an answer is sent again."""
        self._client = client
        self._ids = ids
        self._patience_s = patience_s

    def send(self, piece: Piece) -> Answer:
        """Returns with the answer, or with the last error when the patience is over."""
        columns = Columns.of(piece.events)
        request_id = self._ids.of(piece)
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return Answer(
                    piece, self._client.process_many(columns, request_id=request_id, timeout=_ATTEMPT_S)
                )
            except TallyError as error:
                if not is_in_doubt(error) or time.monotonic() >= deadline:
                    return Answer(piece, error=error)
            time.sleep(_PAUSE_S)


def send_all(pieces: Iterable[Piece], send: Callable[[Piece], Answer]) -> Generator[Answer, None, None]:
    """The answer of each piece, in the order of the pieces; they are read as there is room in flight."""
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="tally-replay") as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(send, piece))
                if len(waiting) > IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
