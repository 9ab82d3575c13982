"""Cutting records into pieces: each is sent as one request, or not at all."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from services.cli.partitioner.records import BadLine, Record
from tally.client import Event
from tally.client.request_id import make_request_id
from tally.contract.request_id import RANDOM_BYTES

PIECE_LINES = 5_000


@dataclass(slots=True)
class Piece:
    """Lines that follow each other."""

    first_line: int
    last_line: int
    events: list[Event] = field(default_factory=list)
    event_lines: list[int] = field(default_factory=list)
    """the line of each event"""
    bad_lines: list[BadLine] = field(default_factory=list)

    def __str__(self) -> str:
        one = self.first_line == self.last_line
        return f"line {self.first_line}" if one else f"lines {self.first_line} to {self.last_line}"


def cut(records: Iterable[Record | BadLine], size: int = PIECE_LINES) -> Iterator[Piece]:
    """Pieces of `size` lines, good and bad. The same file is always cut in the same way."""
    piece: Piece | None = None
    for number, record in enumerate(records):
        if piece is None or number % size == 0:
            if piece is not None:
                yield piece
            piece = Piece(record.line, record.line)
        piece.last_line = record.line
        if isinstance(record, BadLine):
            piece.bad_lines.append(record)
        else:
            piece.events.append(record.event)
            piece.event_lines.append(record.line)
    if piece is not None:
        yield piece


class ReplayIds:
    """The request ids of one replay: each follows from the replay's own id and the first line of its piece.

    So a replay that was cut off can be run again from the beginning: what was counted comes back as duplicate.
    """

    def __init__(self, replay_id: uuid.UUID) -> None:
        """`replay_id`: a UUIDv7. The ids carry its time, so they are good for 24 hours from then."""
        self._time_ms = replay_id.int >> 80
        self._key = replay_id.bytes

    def of(self, piece: Piece) -> str:
        """The request id of a piece."""
        first_line = str(piece.first_line).encode()
        return make_request_id(
            self._time_ms, blake2b(first_line, key=self._key, digest_size=RANDOM_BYTES).digest()
        )
