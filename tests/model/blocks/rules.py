"""The rules by which a merge changes no count, each of which can be switched off alone."""

from enum import Enum


class Rule(Enum):
    """A rule, and what it says."""

    ONE_TRANSACTION = "blocks are taken out of the sources and put into the target in one transaction"
    KEEP_REST = "of a block across the bound the source keeps the rest"
    LEAST_BOUND = "the bound is the least of those of all sources, so that the target stays in order"
    COMPLETE_FIRST = "a target is merged into another one only when it is complete"
    HOLD_GENERATION = "a merge holds the row of its generation, and moves nothing when that is sealed"
    ONE_STATEMENT = "a reader finds runs and blocks in one snapshot"
