"""The state of the model: the record, one replica with its row and a find, and a PutRules with its caller.

Replicas share nothing but the record, so one stands for each of them. Whatever is not running may be frozen: every step
may come late, and time passes meanwhile.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Put(Enum):
    """How far the PutRules is."""

    UNSENT = "not sent"
    LISTED = "the replicas are listed, and nothing is committed"
    WAITING = "committed"
    RETURNED = "returned"


class Row(NamedTuple):
    """The replica's row."""

    asked_at: int
    applied: int


class Query(NamedTuple):
    """A freshness query under way."""

    sent_at: int
    is_renewed: bool = False
    told: int | None = None


class View(NamedTuple):
    """Up to which change rules and contents are applied; they differ only without ONE_SNAPSHOT."""

    change: int
    content: int


class Bounds(NamedTuple):
    """The world."""

    shown: tuple[tuple[bool, ...], ...] = ((True,), (False, False))
    """[rules as of a change][content as of a change]: whether the video is shown; PutRules is the last"""
    ticks: int = 6
    staleness: int = 2
    """of the replica"""
    own_staleness: int = 1
    """the setting of the process that PutRules runs in"""
    drift: int = 1
    """by how much the replica's clock may be slow, over its staleness"""
    lives: int = 1
    """how often the replica may begin"""

    @property
    def last_change(self) -> int:
        return len(self.shown) - 1


class State(NamedTuple):
    """One state."""

    now: int
    change: int
    """the newest in the record"""
    put: Put
    was_listed: bool
    """whether the row was there when PutRules listed; of LISTED alone"""
    row: Row | None
    view: View | None
    is_registered: bool
    """whether the replica takes itself to have a row"""
    query: Query | None
    pending: tuple[int, int] | None
    """when the last question was sent, and which change was told"""
    fresh_at: int | None
    find: bool | None
    """whether a find that has begun has found the video; None: there is no find"""
    lives: int
    wrong: str = ""


Steps = Iterator[tuple[str, State]]


def first(bounds: Bounds) -> State:
    """Nothing runs, and nothing is hidden by PutRules yet."""
    return State(0, 0, Put.UNSENT, False, None, None, False, None, None, None, None, bounds.lives)


def shows(view: View, bounds: Bounds) -> bool:
    """Whether the view has the video for the viewer."""
    return bounds.shown[view.change][view.content]
