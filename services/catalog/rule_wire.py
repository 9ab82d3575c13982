"""Rules: protobuf ↔ domain."""

from collections.abc import Sequence

from services.catalog.rule import Rule
from services.catalog.times import read_time, write_time
from tally.catalog.v1 import rights_pb2 as pb


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
