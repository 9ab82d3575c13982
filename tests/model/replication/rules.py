"""The rules of docs/replication.md, each of which can be switched off alone."""

from enum import Enum


class Rule(Enum):
    """A rule, and what it says."""

    LOCATION_LOCK = "puts and deletes in a location exclude each other before a version is drawn"
    VERSION_UNDER_LOCK = "an update draws its version while the row is locked"
    WHOLE_SNAPSHOT = "a watermark is a whole snapshot, and not the highest transaction that was seen"
    WATERMARK_AT_THE_END = "the watermark moves with the closing message, and not before"
    ONE_TRANSACTION = "a frame, its cursor and its watermark are applied in one transaction"
    OWN_CURSOR = "a pass that goes on keeps the target that its cursor belongs to"
    NEXT_FRAME = "a frame is applied only as the next of the stream in force"
    ONE_LANE = "loads and passes share one ordered stream, each frame of a later snapshot than the one before"
    BEHIND = "an announcement makes the location behind, with the watermark up to which it was loaded"
    LOADING_IN_PASSES = "passes that begin after a load carry the location"
    FLOOR = "the transaction that prunes raises the floor, below which nobody goes on by passes"
    FLOOR_IN_PAGE = "the floor is looked at in the snapshot of each page, and not once for a pass"
    FLOOR_OF_LOADS = "a load from below the floor replaces what is there"
    CLOSING_WORD = "a watermark whose closing word the owner does not know is not gone on from"
    OPEN_WORDS = (
        "what begins a pass, and each page of a load, carries a word as well, which is newer than its rows"
    )
