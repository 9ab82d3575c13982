"""Verifying: converts the bytes of a repository to rows, or to a reason of failure. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from libs.atproto.defects import Defect
from libs.atproto.keys import read_key
from libs.atproto.repo import open_repo
from libs.dataset.rows import RevOutOfRange, Row, check_rev, rows_of
from services.worker.handlers.fetch_repo.fetching import NotFetched


@dataclass(frozen=True, slots=True)
class Fetched:
    """A repository that was verified."""

    did: str
    rev: str
    rows: Sequence[Row]

    @property
    def byte_count(self) -> int:
        """About how much its rows hold."""
        return sum(len(row.record or "") + len(row.cbor or b"") + 200 for row in self.rows)


def verify(car: bytes, did: str, key_type: str, key: str, now_us: int) -> Fetched:
    """The rows of a repository that is whole, signed by the account's key, and well-formed. Raises NotFetched."""
    try:
        repo = open_repo(car, did, read_key(key_type, key))
        rev_us = check_rev(repo.rev, now_us)
        return Fetched(did, repo.rev, list(rows_of(repo, rev_us)))
    except Defect as defect:
        raise NotFetched(
            defect.reason.value,
            f"{str(defect).removeprefix(f'{defect.reason}: ')}{_of(car)}",
            is_transient=defect.is_transient,
        ) from defect
    except RevOutOfRange as error:
        raise NotFetched("rev_out_of_range", f"{error}{_of(car)}", is_transient=False) from error


def _of(car: bytes) -> str:
    """What was set aside: the hash of its bytes (T002-13)."""
    return f" (sha256 {hashlib.sha256(car).hexdigest()}, {len(car)} bytes)"
