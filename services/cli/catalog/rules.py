"""`tally catalog rules`: CSV ↔ rules."""

import csv
import io
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from services.cli.terminal.calling import call
from services.cli.terminal.failure import USAGE, Failure
from tally.catalog.v1 import rights_pb2
from tally.client import Client

_COLUMNS = ("subject", "priority", "allow", "countries", "applications", "platforms", "from", "to", "reason")
_YES = {"yes": True, "no": False}


def put_rules(address: str, file: Path) -> list[str]:
    """Replace the rules of each subject in the file; a line for each. Raises Failure."""
    subjects = _read(file)

    async def put(client: Client) -> list[str]:
        lines = []
        for subject, rules in subjects.items():
            answer = await client.catalog.put_rules(subject, rules)
            what = f"{len(rules)} rules" if rules else "no rules"
            where = f"in force in {answer.confirmed_replicas} processes"
            if answer.stale_replicas:
                where += f"; {answer.stale_replicas} more do not answer"
            lines.append(f"{subject}: {what}, change {answer.change}, {where}")
        return lines

    return call(address, put)


def try_rules(address: str, file: Path) -> list[str]:
    """What the rules of the file would do; lines. Raises Failure."""
    subjects = [rights_pb2.SubjectRules(subject=each, rules=rules) for each, rules in _read(file).items()]
    found = call(address, lambda client: client.catalog.try_rules(subjects))
    lines = [f"{found.affected_count:,} resources are under these subjects, as of change {found.change}"]
    for each in found.differences:
        who = "; ".join(describe_viewers(viewers) for viewers in each.viewers)
        lines.append(f"{describe_times(each)}, for {who}:")
        for what, count, ids in (
            ("appear", each.appear_count, each.appear_ids),
            ("disappear", each.disappear_count, each.disappear_ids),
        ):
            if count:
                lines.append(f"  {count:,} {what}: {' '.join(ids)}{' …' if count > len(ids) else ''}")
    if not found.differences:
        lines.append("no viewer would see a difference")
    for rule in found.useless:
        state = rights_pb2.RuleState.Name(rule.state).removeprefix("RULE_STATE_").lower()
        lines.append(f"{rule.subject}, priority {rule.priority}: never decides ({state})")
    return lines


def describe_times(each: rights_pb2.Difference | rights_pb2.VisibilityWindow) -> str:
    """When, in words."""
    start = each.from_time.ToJsonString() if each.HasField("from_time") else "now"
    return (
        f"from {start} until {each.to_time.ToJsonString()}"
        if each.HasField("to_time")
        else f"from {start} on"
    )


def describe_viewers(viewers: rights_pb2.Viewers) -> str:
    """Who, as country/application/platform."""
    parts = (viewers.countries, viewers.applications, viewers.platforms)
    return "/".join(",".join(codes) or "any" for codes in parts)


def list_rules(address: str, subject: str) -> str:
    """Rules as CSV. Raises Failure."""

    async def read(client: Client) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        after = ""
        while True:
            page = await client.catalog.list_rules(subject, after=after)
            for each in page.subjects:
                after = each.subject
                for rule in each.rules:
                    writer.writerow(_row(each.subject, rule))
            if not page.has_more:
                return text.getvalue()

    return call(address, read)


def _read(file: Path) -> dict[str, list[rights_pb2.Rule]]:
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text()), restkey="more"))
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", USAGE) from error
    subjects: dict[str, list[rights_pb2.Rule]] = {}
    for number, row in enumerate(rows, 2):
        try:
            if unknown := set(row) - set(_COLUMNS):
                raise ValueError(f"there is no column {', '.join(sorted(map(str, unknown)))}")
            rules = subjects.setdefault(row["subject"], [])
            if any(value for name, value in row.items() if name != "subject"):
                rules.append(_rule_of(row))
        except (KeyError, ValueError) as error:
            raise Failure(f"{file}, line {number}: {error}; see --help", USAGE) from error
    return subjects


def _rule_of(row: Mapping[str, str]) -> rights_pb2.Rule:
    if row["allow"] not in _YES:
        raise ValueError(f"allow is {row['allow']!r}, and must be yes or no")
    return rights_pb2.Rule(
        countries=(row.get("countries") or "").split(),
        applications=(row.get("applications") or "").split(),
        platforms=(row.get("platforms") or "").split(),
        from_time=_time(row.get("from")),
        to_time=_time(row.get("to")),
        allow=_YES[row["allow"]],
        priority=int(row["priority"]),
        reason=row.get("reason") or "",
    )


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} names no zone: 2026-01-01T00:00:00Z")
    return time


def _row(subject: str, rule: rights_pb2.Rule) -> list[str]:
    return [
        subject,
        str(rule.priority),
        "yes" if rule.allow else "no",
        " ".join(rule.countries),
        " ".join(rule.applications),
        " ".join(rule.platforms),
        rule.from_time.ToJsonString() if rule.HasField("from_time") else "",
        rule.to_time.ToJsonString() if rule.HasField("to_time") else "",
        rule.reason,
    ]
