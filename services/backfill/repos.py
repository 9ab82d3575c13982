"""Accounts and their states: waiting for their host, ready to be fetched, stored or given up."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.stores.transactions import transaction
from services.backfill.documents import Account, NoAccount
from tally.contract.backoff import Backoff

# Who resolves them has so long; then another may. Two that resolve the same account do no harm.
_CLAIM = """
update backfill.repo set next_try_at = now() + interval '60 seconds'
where did in (select did from backfill.repo where state = 'waiting' and next_try_at <= now()
    order by next_try_at limit $1 for update skip locked) and state = 'waiting'
returning did"""
_HOST = """
insert into backfill.host (url) select distinct url from unnest($1::text[]) as item (url) order by url
on conflict (url) do nothing"""
_RESOLVED = """
update backfill.repo as repo set state = 'ready', host_id = host.host_id, key_type = item.key_type, key = item.key,
    put_at = null, next_try_at = now()
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as item (did, url, key_type, key)
    join backfill.host as host using (url)
where repo.did = item.did and repo.state = 'waiting'"""
_NO_ACCOUNT = """
update backfill.repo as repo set state = 'failed', reason = item.reason, detail = item.detail, attempts = attempts + 1
from unnest($1::text[], $2::text[], $3::text[]) as item (did, reason, detail)
where repo.did = item.did and repo.state = 'waiting'"""
_LATER = """
update backfill.repo set next_try_at = now() + make_interval(secs => $2), detail = $3
where did = any($1) and state = 'waiting'"""
_ACCOUNTS = """
select did, host.url as host, key_type, key from backfill.repo as repo join backfill.host as host using (host_id)
where did = any($1) and repo.state = 'ready'"""
_LOCK = """
select did, attempts, renewed from backfill.repo where did = any($1) and state = 'ready' order by did for update"""
_FAIL = """
update backfill.repo as repo set state = item.state, reason = item.reason, detail = item.detail,
    attempts = item.attempts, renewed = item.renewed, next_try_at = now() + make_interval(secs => item.wait)
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::boolean[], $7::double precision[])
    as item (did, state, reason, detail, attempts, renewed, wait)
where repo.did = item.did"""
_FAILED = "select did from backfill.repo where did = any($1) and state = 'failed'"

# What a change of the account's document may mend: it moved, or has another key.
_MAY_BE_MENDED = frozenset({"signature_invalid", "key_unsupported", "RepoNotFound", "egress_refused"})
_MOST_WAIT_SECONDS = 300.0
_MOST_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """What kept an account's repository from being fetched."""

    did: str
    reason: str
    detail: str
    is_transient: bool


@dataclass(frozen=True, slots=True)
class Ruling:
    """The state of an account after a failure."""

    state: str
    attempts: int
    renewed: bool
    wait_seconds: float = 0.0


def rule(failure: Failure, attempts: int, renewed: bool, most_attempts: int, first_wait: float) -> Ruling:
    """Tried again, resolved again, or given up. Pure; `first_wait`: seconds before the first retry at most."""
    if failure.reason in _MAY_BE_MENDED and not renewed:
        return Ruling("waiting", attempts, renewed=True)
    attempts += 1
    if not failure.is_transient or attempts >= most_attempts:
        return Ruling("failed", attempts, renewed)
    wait = Backoff(first_wait, _MOST_WAIT_SECONDS).cap_s(attempts - 1)
    return Ruling("ready", attempts, renewed, wait)


async def claim_waiting(pool: Any, limit: int) -> list[str]:
    """Some accounts whose host is not known, for this process to resolve."""
    async with transaction(pool) as connection:
        return [row["did"] for row in await connection.fetch(_CLAIM, limit)]


async def record_resolved(pool: Any, accounts: Sequence[Account], missing: Mapping[str, NoAccount]) -> None:
    """Keep where accounts are, and give those up that have no repository."""
    async with transaction(pool) as connection:
        if accounts:
            await connection.execute(_HOST, [account.host for account in accounts])
            await connection.execute(
                _RESOLVED,
                [account.did for account in accounts],
                [account.host for account in accounts],
                [account.key_type for account in accounts],
                [account.key for account in accounts],
            )
        if missing:
            await connection.execute(
                _NO_ACCOUNT,
                list(missing),
                [each.reason for each in missing.values()],
                [str(each)[:_MOST_DETAIL] for each in missing.values()],
            )


async def record_unanswered(pool: Any, dids: Sequence[str], wait_seconds: float, detail: str) -> None:
    """Try accounts again later: the directory did not answer, which costs no attempt."""
    async with transaction(pool) as connection:
        await connection.execute(_LATER, list(dids), wait_seconds, detail[:_MOST_DETAIL])


async def read_accounts(pool: Any, dids: Sequence[str]) -> list[Account]:
    """Those of the accounts that are to be fetched."""
    async with transaction(pool) as connection:
        rows = await connection.fetch(_ACCOUNTS, list(dids))
    return [Account(row["did"], row["host"], row["key_type"], row["key"]) for row in rows]


async def record_failures(
    pool: Any, failures: Sequence[Failure], most_attempts: int, first_wait: float
) -> list[str]:
    """Rule on failures; which accounts were given up. A report that is repeated costs one more attempt at most."""
    by_did = {failure.did: failure for failure in failures}
    async with transaction(pool) as connection:
        rows = await connection.fetch(_LOCK, list(by_did))
        rulings = {
            row["did"]: rule(by_did[row["did"]], row["attempts"], row["renewed"], most_attempts, first_wait)
            for row in rows
        }
        await connection.execute(
            _FAIL,
            list(rulings),
            [ruling.state for ruling in rulings.values()],
            [by_did[did].reason for did in rulings],
            [by_did[did].detail[:_MOST_DETAIL] for did in rulings],
            [ruling.attempts for ruling in rulings.values()],
            [ruling.renewed for ruling in rulings.values()],
            # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
            [ruling.wait_seconds * random.random() for ruling in rulings.values()],  # noqa: S311
        )
    gone = [did for did in by_did if did not in rulings]
    given_up = [did for did, ruling in rulings.items() if ruling.state == "failed"]
    return given_up + await _which_failed(pool, gone)


async def _which_failed(pool: Any, dids: Sequence[str]) -> list[str]:
    """Those of accounts that were given up before: the report is repeated."""
    if not dids:
        return []
    async with transaction(pool) as connection:
        return [row["did"] for row in await connection.fetch(_FAILED, list(dids))]
