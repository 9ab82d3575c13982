"""The defects of a repository."""

from enum import StrEnum


class Reason(StrEnum):
    """A stable name for each kind of defect; a repository is set aside under it."""

    CAR_TRUNCATED = "car_truncated"
    CAR_MALFORMED = "car_malformed"
    BLOCK_MISSING = "block_missing"
    BLOCK_CHANGED = "block_changed"
    LIMIT_EXCEEDED = "limit_exceeded"
    COMMIT_MALFORMED = "commit_malformed"
    WRONG_REPO = "wrong_repo"
    SIGNATURE_INVALID = "signature_invalid"
    TREE_MALFORMED = "tree_malformed"
    RECORD_MALFORMED = "record_malformed"
    KEY_UNSUPPORTED = "key_unsupported"


_TRANSIENT = (Reason.CAR_TRUNCATED, Reason.BLOCK_MISSING)


class Defect(Exception):
    """A repository is not as its specification demands; nothing of it may be kept."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.is_transient = reason in _TRANSIENT
        """Whether another fetch may help: the answer was cut off."""
