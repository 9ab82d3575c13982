"""Videos and channels in a CSV file, a line each. Reading only, nothing is sent."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.cli.terminal.rows import BadLine, Row, check, read_rows, read_text
from tally.client.scheduler import Channel, Video
from tally.contract import rules

T = TypeVar("T", Video, Channel)

_KEY = "youtube_id"
_MOST_TITLE_BYTES = 4_096
_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def _video(fields: Mapping[str, str]) -> Video:
    return Video(
        _id(fields, _KEY),
        channel_id=_id(fields, "channel_id") if "channel_id" in fields else None,
        title=_title(fields),
        is_oon=_flag(fields, "is_oon"),
        has_label_association=_flag(fields, "has_label_association"),
    )


def _channel(fields: Mapping[str, str]) -> Channel:
    return Channel(
        _id(fields, _KEY),
        title=_title(fields),
        is_oon=_flag(fields, "is_oon"),
        has_label_association=_flag(fields, "has_label_association"),
    )


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What a file holds: what it is called, its columns, and how a row is made of them."""

    noun: str
    columns: tuple[str, ...]
    make: Callable[[Mapping[str, str]], T]

    def read(self, lines: Iterable[str]) -> Iterator[Row[T] | BadLine]:
        """Raises NoHeading."""
        return read_rows(lines, 1, self.columns, _KEY, self.make)


VIDEOS = Kind("videos", (_KEY, "channel_id", "title", "is_oon", "has_label_association"), _video)
CHANNELS = Kind("channels", (_KEY, "title", "is_oon", "has_label_association"), _channel)


def _id(fields: Mapping[str, str], name: str) -> str:
    text = read_text(fields, name)
    check(name, rules.check_video_id(text))
    return text


def _title(fields: Mapping[str, str]) -> str | None:
    if "title" not in fields:
        return None
    title = read_text(fields, "title")
    if "\0" in title or len(title.encode()) > _MOST_TITLE_BYTES:
        raise ValueError(f"title must be at most {_MOST_TITLE_BYTES} bytes, without NUL")
    return title


def _flag(fields: Mapping[str, str], name: str) -> bool | None:
    if name not in fields:
        return None
    try:
        return _FLAGS[fields[name].strip().lower()]
    except KeyError:
        raise ValueError(f"{name} is {fields[name]!r}, which is neither true nor false") from None
