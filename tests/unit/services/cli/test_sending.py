import threading
from collections.abc import Iterator

import pytest

from services.cli.pieces import Piece
from services.cli.sending import IN_FLIGHT, Answer, send_all


def pieces(count: int, taken: list[int]) -> Iterator[Piece]:
    for number in range(count):
        taken.append(number)
        yield Piece(number, number)


def test_answers_come_in_the_order_of_the_pieces_whoever_is_first() -> None:
    second_done = threading.Event()

    def send(piece: Piece) -> Answer:
        if piece.first_line == 0:
            assert second_done.wait(10)
        if piece.first_line == 1:
            second_done.set()
        return Answer(piece)

    assert [answer.piece.first_line for answer in send_all(pieces(20, []), send)] == list(range(20))


def test_no_more_is_read_than_there_is_room_for() -> None:
    taken: list[int] = []
    answers = send_all(pieces(100, taken), Answer)
    next(answers)
    assert len(taken) == IN_FLIGHT + 1
    answers.close()
    assert len(taken) == IN_FLIGHT + 1


def test_what_send_raises_is_raised() -> None:
    def send(_: Piece) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(send_all(pieces(3, []), send))
