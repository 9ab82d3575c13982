"""Rules in Postgres."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from services.catalog.feed import DRAWN
from services.catalog.ids import is_id
from services.catalog.reindexing import check_settled
from services.catalog.rule import Rule, check_rules
from services.catalog.type_record import hold_all_types, hold_dimensions
from services.catalog.view import describe_unknown
from services.catalog.writing import Writing
from tally.contract.errors import InvalidRequest, Violation

# The row stays when the rules go, so that a put which is sent again finds the change to wait for.
_LOCK = """
insert into catalog.subject (subject, fingerprint) values ($1, '') on conflict (subject) do update
set subject = excluded.subject returning fingerprint, change"""
_REMOVE = "delete from catalog.rule where subject = $1"
_ADD = """
insert into catalog.rule (subject, priority, countries, applications, platforms, from_us, to_us, allow, reason)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"""
_FINISH = f"""
with {DRAWN}, marked as (
    update catalog.subject set fingerprint = $2, change = drawn.change from drawn where subject = $1
)
insert into catalog.change (change, kind, subject) select change, 'rules', $1 from drawn returning change"""
_COLUMNS = "subject, priority, allow, countries, applications, platforms, from_us, to_us, reason"
_READ = f"select {_COLUMNS} from catalog.rule where subject = any($1::text[]) order by subject, priority"
_READ_ALL = f"select {_COLUMNS} from catalog.rule order by subject, priority"
_LIST = """
select subject, change from catalog.subject
where ($1 = '' or subject = $1) and subject > $2
    and exists (select from catalog.rule where rule.subject = subject.subject)
order by subject limit $3"""


@dataclass(frozen=True, slots=True)
class StoredRules:
    """The outcome of a put of rules."""

    change: int
    """the newest of the subject; 0: it has never had rules"""
    changed: bool


async def put_rules(writing: Writing, subject: str, rules: Sequence[Rule]) -> StoredRules:
    """Replace the rules of a subject, an id or a set. Raises InvalidRequest.

    Raises IndexIncomplete for a set that is not complete: the rules would not hold for all that must be in it. All
    rules of a subject can be taken away meanwhile.
    """
    async with writing.transaction() as connection:
        # Also for an id: a type that takes resources from below a parent looks for its rules.
        types = await hold_all_types(connection)
        if not is_id(subject) and (problem := describe_unknown(types, subject)):
            raise InvalidRequest([Violation("subject", f"must be an id, 38v, or a set: {problem}")])
        if wrong := check_rules(rules, await hold_dimensions(connection)):
            raise InvalidRequest(wrong)
        if rules:
            await check_settled(connection, [subject])  # the types that it looks at are held
        row = await connection.fetchrow(_LOCK, subject)
        fingerprint = _fingerprint(rules)
        if row["fingerprint"] == fingerprint or (not rules and not row["fingerprint"]):
            return StoredRules(row["change"], False)
        await connection.execute(_REMOVE, subject)
        await connection.executemany(_ADD, [_row_of(subject, rule) for rule in rules])
        change: int = await connection.fetchval(_FINISH, subject, fingerprint)
        return StoredRules(change, True)


async def read_rules(connection: Any, subjects: Sequence[str] | None = None) -> Mapping[str, list[Rule]]:
    """The rules of some subjects, or of all, sorted by priority; over an asyncpg connection or pool."""
    rows = (
        await connection.fetch(_READ_ALL)
        if subjects is None
        else await connection.fetch(_READ, list(subjects))
    )
    return {
        subject: [_rule_of(row) for row in group]
        for subject, group in groupby(rows, key=lambda row: str(row["subject"]))
    }


async def list_subjects(connection: Any, subject: str, after: str, limit: int) -> list[tuple[str, int]]:
    """Subjects with rules, and the change of each: one, or those behind `after`."""
    return [(row["subject"], row["change"]) for row in await connection.fetch(_LIST, subject, after, limit)]


def _row_of(subject: str, rule: Rule) -> tuple[Any, ...]:
    codes = (sorted(each) for each in (rule.countries, rule.applications, rule.platforms))
    return subject, rule.priority, *codes, rule.from_us, rule.to_us, rule.allow, rule.reason


def _rule_of(row: Any) -> Rule:
    return Rule(
        row["priority"],
        row["allow"],
        frozenset(row["countries"]),
        frozenset(row["applications"]),
        frozenset(row["platforms"]),
        row["from_us"],
        row["to_us"],
        row["reason"],
    )


def _fingerprint(rules: Sequence[Rule]) -> bytes:
    rows = [_row_of("", rule) for rule in sorted(rules, key=lambda rule: rule.priority)]
    return hashlib.blake2b(repr(rows).encode(), digest_size=16).digest()
