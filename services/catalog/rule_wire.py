"""Rules: protobuf ↔ domain."""

from collections.abc import Mapping, Sequence

from services.catalog.ids import is_id
from services.catalog.layout import name_of_set
from services.catalog.rule import Rule, check_rules
from services.catalog.times import read_time, write_time
from services.catalog.view import View, describe_unknown
from tally.catalog.v1 import rights_pb2 as pb
from tally.contract.errors import IndexIncomplete, InvalidRequest, Violation

MAX_SUBJECTS = 1_000


def read_rules_of(messages: Sequence[pb.Rule]) -> list[Rule]:
    """The rules of messages. Raises InvalidRequest for times that are none.

    What is finer than a microsecond is settled towards denial.
    """
    return [
        Rule(
            message.priority,
            message.allow,
            frozenset(code.upper() for code in message.countries),
            frozenset(message.applications),
            frozenset(message.platforms),
            read_time(message, "from_time", f"rules[{index}].from_time", finer_is_later=message.allow),
            read_time(message, "to_time", f"rules[{index}].to_time", finer_is_later=not message.allow),
            message.reason,
        )
        for index, message in enumerate(messages)
    ]


def read_subjects(messages: Sequence[pb.SubjectRules]) -> dict[str, list[Rule]]:
    """Rules by subject. Raises InvalidRequest."""
    if not 1 <= len(messages) <= MAX_SUBJECTS:
        raise InvalidRequest([Violation("subjects", f"must be 1 to {MAX_SUBJECTS:,}")])
    subjects = {message.subject: read_rules_of(message.rules) for message in messages}
    if len(subjects) < len(messages):
        raise InvalidRequest([Violation("subjects", "must not have a subject twice")])
    return subjects


def check_subjects(view: View, subjects: Mapping[str, Sequence[Rule]]) -> None:
    """Raises InvalidRequest and IndexIncomplete for what could not be put."""
    wrong: list[Violation] = []
    for index, (subject, rules) in enumerate(subjects.items()):
        field = f"subjects[{index}]"
        if not is_id(subject) and (problem := describe_unknown(view.types.values(), subject)):
            wrong.append(Violation(f"{field}.subject", f"must be an id, 38v, or a set: {problem}"))
        wrong += [
            Violation(f"{field}.{each.field}", each.description)
            for each in check_rules(rules, view.rights.dimensions)
        ]
    if wrong:
        raise InvalidRequest(wrong)
    sets = (subject for subject, rules in subjects.items() if rules and not is_id(subject))
    if found := [subject for subject in sets if name_of_set(subject) in view.incomplete]:
        raise IndexIncomplete(
            f"{', '.join(found)}: not complete yet, as a type was changed and its resources are being indexed anew; "
            "try again later (`tally catalog status` shows how far it is)"
        )


def message_of_rule(rule: Rule) -> pb.Rule:
    """The message of a rule."""
    return pb.Rule(
        countries=sorted(rule.countries),
        applications=sorted(rule.applications),
        platforms=sorted(rule.platforms),
        from_time=None if rule.from_us is None else write_time(rule.from_us),
        to_time=None if rule.to_us is None else write_time(rule.to_us),
        allow=rule.allow,
        priority=rule.priority,
        reason=rule.reason,
    )
