import uuid

from services.cli.partitioner.pieces import Piece, ReplayIds, cut
from services.cli.partitioner.records import BadLine, Record
from tally.client import Event

REPLAY = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def test_pieces_hold_so_many_lines_good_and_bad() -> None:
    records = [BadLine(n, "bad") if n == 4 else Record(n, Event(str(n))) for n in range(2, 9)]
    pieces = list(cut(records, 3))
    assert [(piece.first_line, piece.last_line) for piece in pieces] == [(2, 4), (5, 7), (8, 8)]
    assert [piece.event_lines for piece in pieces] == [[2, 3], [5, 6, 7], [8]]
    assert [event.video_id for event in pieces[0].events] == ["2", "3"]
    assert pieces[0].bad_lines == [BadLine(4, "bad")]


def test_nothing_makes_no_piece() -> None:
    assert list(cut([])) == []


def test_a_bad_line_that_is_mended_moves_no_other_line_to_another_piece() -> None:
    mended = [Record(n, Event(str(n))) for n in range(1, 8)]
    bad = [BadLine(n, "bad") if n == 5 else record for n, record in enumerate(mended, 1)]
    assert [piece.first_line for piece in cut(bad, 3)] == [piece.first_line for piece in cut(mended, 3)]


def test_a_piece_names_its_lines() -> None:
    assert str(Piece(2, 10)) == "lines 2 to 10"
    assert str(Piece(2, 2)) == "line 2"


def test_the_id_of_a_piece_is_the_same_in_every_run_of_one_replay() -> None:
    request_id = uuid.UUID(ReplayIds(REPLAY).of(Piece(5_002, 10_001)))
    assert str(request_id) == ReplayIds(REPLAY).of(Piece(5_002, 9_000))
    assert request_id.version == 7
    assert request_id.int >> 80 == REPLAY.int >> 80


def test_other_lines_and_other_replays_have_other_ids() -> None:
    ids = {ReplayIds(REPLAY).of(Piece(line, line)) for line in range(1, 1_001)}
    other = ReplayIds(uuid.UUID(int=REPLAY.int + 1))
    assert len(ids | {other.of(Piece(line, line)) for line in range(1, 1_001)}) == 2_000
