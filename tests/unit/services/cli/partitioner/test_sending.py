import threading
from collections.abc import Iterator

import pytest

from services.cli.partitioner.pieces import Piece
from services.cli.partitioner.sending import IN_FLIGHT, Answer, send_all


def pieces(count: int, taken: list[int]) -> Iterator[Piece]:
    for number in range(count):
        taken.append(number)
        yield Piece(number, number)


def fail_to_stop() -> None:
    raise AssertionError("everything has its answer")


def test_answers_come_in_the_order_of_the_pieces_whoever_is_first() -> None:
    second_done = threading.Event()

    def send(piece: Piece) -> Answer:
        if piece.first_line == 0:
            assert second_done.wait(10)
        if piece.first_line == 1:
            second_done.set()
        return Answer(piece)

    assert [answer.piece.first_line for answer in send_all(pieces(20, []), send, fail_to_stop)] == list(
        range(20)
    )


def test_no_more_is_read_than_there_is_room_for() -> None:
    taken: list[int] = []
    answers = send_all(pieces(100, taken), Answer, lambda: None)
    next(answers)
    assert len(taken) == IN_FLIGHT + 1
    answers.close()
    assert len(taken) == IN_FLIGHT + 1


def test_what_send_raises_is_raised() -> None:
    def send(_: Piece) -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(send_all(pieces(3, []), send, lambda: None))


def test_whoever_wants_no_more_answers_does_not_wait_for_those_under_way() -> None:
    stopped = threading.Event()
    sent: list[Piece] = []

    def send(piece: Piece) -> Answer:
        if piece.first_line > 0:
            sent.append(piece)
            assert stopped.wait(30)
        return Answer(piece)

    answers = send_all(pieces(100, []), send, stopped.set)
    next(answers)
    answers.close()
    assert stopped.is_set()
    assert len(sent) <= IN_FLIGHT + 1
