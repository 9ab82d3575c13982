"""Sending pieces, a few at once, each until it has an answer."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from services.cli.partitioner.pieces import Piece, ReplayIds
from services.cli.terminal.calling import is_unsettled
from tally.client import Columns, Receipt, TallyError
from tally.client.blocking import Client

IN_FLIGHT = 4
_ATTEMPT_S = 20.0
_PAUSE_S = 0.5
_LAST_S = 1.0
"""How long a stopped replay waits for answers to requests under way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a piece: it has a receipt, or an error."""

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
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Send nothing again, and end what is under way; the client is closed by this."""
        self._stopping.set()
        self._client.close(timeout=_LAST_S)

    def send(self, piece: Piece) -> Answer:
        """Returns with the answer, or with the last error when the patience is over or all is stopped."""
        columns = Columns.of(piece.events)
        request_id = self._ids.of(piece)
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return Answer(
                    piece, self._client.process_many(columns, request_id=request_id, timeout=_ATTEMPT_S)
                )
            except TallyError as error:
                is_over = not is_unsettled(error) or time.monotonic() >= deadline
                if is_over or self._stopping.wait(_PAUSE_S):
                    return Answer(piece, error=error)


def send_all(
    pieces: Iterable[Piece], send: Callable[[Piece], Answer], stop: Callable[[], None]
) -> Generator[Answer, None, None]:
    """The answer of each piece, in the order of the pieces; they are read as there is room in flight.

    `stop`: called when the other answers are not needed, as after Ctrl-C; it makes `send` return soon.
    """
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="tally-replay") as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(send, piece))
                if len(waiting) > IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            for future in waiting:
                future.cancel()
            stop()
            raise
