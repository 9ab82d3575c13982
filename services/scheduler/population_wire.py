"""Populations on the wire: rows to put, selections, and page tokens that are keys."""

from collections.abc import Sequence
from typing import Any

from libs.rpc.paging import read_token
from services.scheduler.listing import Selection
from services.scheduler.members import FIRST, Key
from tally.contract import rules
from tally.contract.errors import InvalidRequest, Violation
from tally.scheduler.v1 import population_pb2 as pb

_MOST_ROWS = 5_000
_MOST_BIN_MAX = 100_000
_MOST_TITLE_BYTES = 4_096


def read_rows(messages: Sequence[Any], field: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows of an id and these columns, None where one is left out. Raises InvalidRequest for all that is wrong."""
    if len(messages) > _MOST_ROWS:
        raise InvalidRequest([Violation(field, f"must be at most {_MOST_ROWS} in one message")])
    violations = [
        Violation(f"{field}[{number}].{name}", problem)
        for number, message in enumerate(messages)
        for name, problem in _problems(message, columns)
    ]
    if violations:
        raise InvalidRequest(violations)
    return [
        (
            message.youtube_id,
            *(getattr(message, name) if message.HasField(name) else None for name in columns),
        )
        for message in messages
    ]


def read_repos(messages: Sequence[pb.Repo]) -> list[tuple[Any, ...]]:
    """Rows of a DID, the number of its host, and that it is wanted. Raises InvalidRequest for all that is wrong."""
    if len(messages) > _MOST_ROWS:
        raise InvalidRequest([Violation("repos", f"must be at most {_MOST_ROWS} in one message")])
    violations = [
        Violation(f"repos[{number}].{name}", problem)
        for number, message in enumerate(messages)
        for name, problem in (
            ("did", rules.check_video_id(message.did)),
            ("host", None if message.host >= 1 else "must be the number of its host, 1 or more"),
        )
        if problem
    ]
    if violations:
        raise InvalidRequest(violations)
    return [(message.did, message.host, True) for message in messages]


def _problems(message: Any, columns: Sequence[str]) -> list[tuple[str, str]]:
    problems = []
    if problem := rules.check_video_id(message.youtube_id):
        problems.append(("youtube_id", problem))
    if "channel_id" in columns and message.HasField("channel_id"):
        problem = rules.check_video_id(message.channel_id)
        if problem:
            problems.append(("channel_id", problem))
    if "\0" in message.title or len(message.title.encode()) > _MOST_TITLE_BYTES:
        problems.append(("title", f"must be at most {_MOST_TITLE_BYTES} bytes, without NUL"))
    return problems


def read_selection(selection: pb.Selection) -> Selection:
    """Everybody, or some bins; never everybody by mistake (T000-06). Raises InvalidRequest."""
    match selection.WhichOneof("selection"):
        case "all":
            return Selection((0,), 1, confirm_members=selection.all.confirm_members)
        case "bins":
            bins = selection.bins
        case _:
            raise InvalidRequest([Violation("selection", "must be `all`, or `bins` with bin_max")])
    if not 1 <= bins.bin_max <= _MOST_BIN_MAX:
        raise InvalidRequest([Violation("selection.bins.bin_max", f"must be from 1 to {_MOST_BIN_MAX}")])
    if any(not 0 <= number < bins.bin_max for number in bins.bin_numbers):
        raise InvalidRequest(
            [Violation("selection.bins.bin_numbers", f"must be from 0 to {bins.bin_max - 1}")]
        )
    return Selection(tuple(sorted(set(bins.bin_numbers))), bins.bin_max)


def filters_of(selection: Selection) -> str:
    """What a page token remembers of a selection."""
    return f"{selection.bin_max}:{','.join(map(str, selection.bin_numbers))}"


def read_after(token: str, selection: Selection) -> Key:
    """The key behind which a page begins. Raises InvalidRequest."""
    text = read_token(token, filters_of(selection))
    if not text:
        return FIRST
    sync_bin, separator, youtube_id = text.partition("/")
    if not separator or not sync_bin.isdecimal() or len(sync_bin) > 9:
        raise InvalidRequest([Violation("page_token", "is no token of this service")])
    return Key(int(sync_bin), youtube_id)
