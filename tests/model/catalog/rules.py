"""The rules by which nothing hidden is shown (docs/catalog.md), each of which can be switched off alone."""

from enum import Enum


class Rule(Enum):
    """A rule, and what it says."""

    TWO_STATEMENTS = (
        "the replica's row is renewed and committed before the newest change is read in a new snapshot"
    )
    FROM_THE_SENDING = "fresh counts from the sending of the first statement"
    ONCE_APPLIED = "an answer counts only once the change that it told of is applied"
    CHECK_AT_LEAVING = "what leaves is looked at under the newest view when it leaves"
    STALE_AT_LEAVING = (
        "a replica looks at its freshness when an answer leaves, and not only when a find begins"
    )
    ROW_GONE = "a question that finds no row makes the replica begin anew"
    ASK_AFTER_REGISTERING = "a replica answers only after a question that began when its row was there"
    STOP_BEFORE_LEAVING = "a replica that stops answers nothing from the moment at which its row goes"
    OWN_STALENESS = "a row tells the staleness that its replica keeps"
    ALLOWANCE = "PutRules waits a little longer than the staleness, as two clocks differ"
    LIST_AFTER_COMMIT = "PutRules lists the replicas after its commit"
    WAIT_WHEN_REPEATED = "a PutRules that changes nothing waits for the newest change of its subject"
    ONE_SNAPSHOT = "contents are of the snapshot that gave the changes, and all its changes are shown at once"
