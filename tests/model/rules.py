"""The rules of the design, each of which can be switched off alone."""

from enum import Enum


class Rule(Enum):
    """A rule, and what it says."""

    ONE_ROW_ANSWER = "only if its log was open does `not inserted` mean duplicate"
    ONE_INSERT = "a log has at most one insert under way, so commit order is seq order"
    NEW_LOG_IN_DOUBT = "whoever is in doubt writes no more to the same log"
    DROPPED_BUFFER = "whoever gives a log up drops its buffer, for recovery has it from the journal"
    CLOSE_BEFORE_READ = "recovery reads a log after the commit that closed it, in a new snapshot"
    CLOSING = "recovery closes a log before it applies what the log left"
    FOR_UPDATE = "closing waits for the inserts under way: it takes the log's row `for update`"
    KEY_SHARE = "an insert holds its log's row `for key share` until it has ended"
    FENCE = "an insert writes only while its log is open"
    COMPARE_AND_SET = "a flush moves the checkpoint only from where it believes it to be"
    COMPARE_PARTS = "it compares how much of an entry is applied, too"
    ONLY_THE_REST = "whoever goes on with an entry that is applied in part adds only the rest of it"
    ONE_TRANSACTION = "the transaction that moves the checkpoint adds the entries to the rollups"
    ALL_PIECES = "a log is settled only when nothing is left above its checkpoint"
    ACKNOWLEDGE_AFTER_COMMIT = "nothing is acknowledged before its insert is committed"
    NEW_ENTRIES_ONLY = "only entries that the insert has inserted go to the buffer, no duplicates"
    PRIMARY_KEY = "a request is in the journal once"
