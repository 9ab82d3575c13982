"""The rules by which upkeep changes no count, each of which can be switched off alone."""

from enum import Enum


class Rule(Enum):
    """A rule, and what it says."""

    MOVE_CHECKPOINTS = (
        "sealing moves the checkpoint of every log that is not settled, and so waits for its flush"
    )
    CHECK_LATER = (
        "the check for checkpoints that are left is a later statement than the lock of the generation"
    )
    HOLD_IN_OPENING = "the opening of a log holds the row of its generation until it commits"
    HOLD_IN_REPLAY = "the replay of a dead letter holds the row of its generation until it commits"
    SEALED_ONLY = "only a sealed generation is rolled up"
    COMPARE_AND_SET = "a piece moves the mark of its generation by compare and set"
    MARK_WITH_DATA = "the mark changes in the transaction that writes the grains"
    BEYOND_THE_MARK = "a reader takes the minutes beyond the mark alone"
    ONE_STATEMENT = "a reader finds marks, minutes and grains in one snapshot"
