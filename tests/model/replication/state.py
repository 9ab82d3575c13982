"""What there is at one instant: the owner's tables, the peer's tables, and what is on its way.

Transaction ids and versions are small numbers, snapshots are sets of the transactions that are visible in them. A
connection that is lost, and a process that dies, leave the tables as they are.
"""

from collections.abc import Iterator
from typing import NamedTuple

KEYS = ("x", "y")
CURRENT, BEHIND, LOADING = "current", "behind", "loading"
Snapshot = frozenset[int]
NOTHING: Snapshot = frozenset()


class Row(NamedTuple):
    """A row or a tombstone of the owner."""

    version: int
    changed: int


class Writer(NamedTuple):
    """An open transaction of one statement."""

    xid: int
    op: str
    key: str
    version: int
    is_written: bool


class Owner(NamedTuple):
    """The owner's tables. Rows and tombstones are by key, None where there is none."""

    rows: tuple[Row | None, ...] = (None, None)
    tombstones: tuple[Row | None, ...] = (None, None)
    committed: Snapshot = NOTHING
    next_xid: int = 1
    next_version: int = 1
    floor: Snapshot = NOTHING
    """transactions whose tombstones were pruned"""
    words: frozenset[int] = frozenset({0})


class Peer(NamedTuple):
    """The peer's tables. `rows`: the version of each key."""

    rows: tuple[int | None, ...] = (None, None)
    watermark: Snapshot = NOTHING
    word: int = 0
    target: Snapshot | None = None
    cursor: tuple[int, str] = (0, "")
    state: str = CURRENT
    loaded_to: Snapshot | None = NOTHING
    load_key: str = ""
    stream: int = 0
    frame: int = 0


class Frame(NamedTuple):
    """A frame on its way: what it is, and what it brings."""

    stream: int
    kind: str
    key: str = ""
    version: int = 0
    is_gone: bool = False
    cursor: tuple[int, str] = (0, "")
    snapshot: Snapshot = NOTHING
    word: int = -1
    """-1: none"""
    number: int = 0
    """within the stream"""


class Sender(NamedTuple):
    """The memory of the owner's end of the stream in force."""

    stream: int
    watermark: Snapshot
    target: Snapshot | None
    cursor: tuple[int, str]
    leaves_out: bool
    """whether the pass leaves the location out"""
    state: str
    loaded_to: Snapshot | None
    load_key: str
    is_loading: bool = False
    is_checked: bool = False
    """whether the floor was looked at in this pass"""
    frames: int = 0
    is_resumed: bool = False
    """whether the pass was begun in another stream, and its first frame is not sent yet"""


class State(NamedTuple):
    """Everything."""

    owner: Owner
    peer: Peer
    writers: tuple[Writer, ...]
    sender: Sender | None
    pass_frame: Frame | None
    load_frame: Frame | None
    """only without the rule of one lane"""
    frozen: Frame | None
    """in the hands of a replica that was frozen, and wakes"""
    half: Frame | None
    """only without the rule of one transaction: its cursor is applied, and its row is not yet"""
    next_stream: int
    next_word: int
    owner_backup: Owner | None
    peer_backup: Peer | None
    writes: int
    kills: int
    prunes: int
    restores: int
    announcements: int


class Bounds(NamedTuple):
    """How small the world is: how often each thing may happen."""

    writes: int = 3
    writers: int = 2
    kills: int = 1
    prunes: int = 0
    restores: int = 0
    announcements: int = 0


Steps = Iterator[tuple[str, State]]
"""What may happen next: in words, and what there is then."""


def first(bounds: Bounds) -> State:
    """Nothing was written, and the peer has the snapshot of that."""
    return State(
        Owner(),
        Peer(),
        (),
        None,
        None,
        None,
        None,
        None,
        1,
        1,
        None,
        None,
        bounds.writes,
        bounds.kills,
        bounds.prunes,
        bounds.restores,
        bounds.announcements,
    )


def put(items: tuple[Row | None, ...], key: str, item: Row | None) -> tuple[Row | None, ...]:
    """The row of a key is another."""
    return tuple(item if each == key else old for each, old in zip(KEYS, items, strict=True))


def put_version(items: tuple[int | None, ...], key: str, item: int | None) -> tuple[int | None, ...]:
    """The peer's version of a key is another."""
    return tuple(item if each == key else old for each, old in zip(KEYS, items, strict=True))


def find_violation(state: State) -> str | None:
    """Where all is read and nothing is on its way, both ends are equal."""
    owner, peer = state.owner, state.peer
    is_idle = (
        not state.writers
        and state.half is None
        and peer.target is None
        and peer.state == CURRENT
        and peer.watermark >= owner.committed
        and peer.word in owner.words
    )
    if not is_idle:
        return None
    there = tuple(None if row is None else row.version for row in owner.rows)
    if there != peer.rows:
        return f"the owner has {there}, the peer {peer.rows}, and nothing more is sent"
    return None
