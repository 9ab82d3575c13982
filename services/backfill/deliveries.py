"""Deliveries: stores what a worker delivers in the dataset, in one transaction.

A delivery is named by its content, so that one that is repeated after a lost answer is the same. It is taken whichever
worker brings it, whatever became of its lease: a verified repository is valid. An account that is stored at this rev or
a later one stays as it is (T002-34), and the rows that a part has of it count for nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.stores.transactions import transaction
from tally.contract.errors import InvalidRequest, Violation

_DELIVERY = "insert into backfill.delivery (delivery_id) values ($1) on conflict do nothing"
_PARTS = """
insert into backfill.part (delivery_id, name, collection, row_count, byte_count)
select $1, name, collection, rows, bytes
from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) as item (name, collection, rows, bytes)
on conflict do nothing"""
# TIDs of the same length: they are in the order of their times.
_LOCK = """
select repo.did from backfill.repo as repo join unnest($1::text[], $2::text[]) as item (did, rev) using (did)
where repo.rev is null or repo.rev < item.rev order by repo.did for update of repo"""
_STORE = """
update backfill.repo as repo set state = 'stored', rev = item.rev, delivery_id = $1, record_count = item.records,
    stored_at = now(), reason = '', detail = ''
from unnest($2::text[], $3::text[], $4::bigint[]) as item (did, rev, records)
where repo.did = item.did and (repo.rev is null or repo.rev < item.rev)"""
_COUNT = "select count(*) from backfill.repo where delivery_id = $1 and did = any($2)"


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part that is in the object store."""

    name: str
    collection: str
    row_count: int
    byte_count: int


@dataclass(frozen=True, slots=True)
class RepoRow:
    """A repository whose records are in the parts."""

    did: str
    rev: str
    record_count: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """Repositories and the parts that hold their records."""

    parts: Sequence[PartRow]
    repos: Sequence[RepoRow]

    @property
    def id(self) -> str:
        """Made from its content."""
        lines = sorted(part.name for part in self.parts) + sorted(
            f"{repo.did} {repo.rev} {repo.record_count}" for repo in self.repos
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


async def record_delivery(pool: Any, delivery: Delivery) -> int:
    """Store what is new in a delivery; how many repositories are in the dataset by it. Raises InvalidRequest."""
    repos = sorted(delivery.repos, key=lambda repo: repo.did)
    dids = [repo.did for repo in repos]
    if len(set(dids)) < len(dids):
        raise InvalidRequest([Violation("repos", "must not name an account twice")])
    revs = [repo.rev for repo in repos]
    async with transaction(pool) as connection:
        fresh = await connection.fetch(_LOCK, dids, revs)
        if fresh:
            await connection.execute(_DELIVERY, delivery.id)
            await connection.execute(
                _PARTS,
                delivery.id,
                [part.name for part in delivery.parts],
                [part.collection for part in delivery.parts],
                [part.row_count for part in delivery.parts],
                [part.byte_count for part in delivery.parts],
            )
            await connection.execute(_STORE, delivery.id, dids, revs, [repo.record_count for repo in repos])
        stored: int = await connection.fetchval(_COUNT, delivery.id, dids)
    return stored
