"""Explanations and trials: domain → protobuf."""

from collections.abc import Mapping, Sequence

from pyroaring import BitMap

from services.catalog.explanation import Budget, Explanation, State, find_useless
from services.catalog.ids import unpack
from services.catalog.rights import OTHER
from services.catalog.rule import Rule
from services.catalog.rule_wire import message_of_rule
from services.catalog.times import write_time
from services.catalog.trial import Difference, Trial, Viewers
from services.catalog.view import View
from tally.catalog.v1 import rights_pb2 as pb

_MOST_IDS = 20
_STATES: Mapping[State, pb.RuleState] = {
    State.DECIDES: pb.RULE_STATE_DECIDES,
    State.LATER: pb.RULE_STATE_LATER,
    State.NO_MATCH: pb.RULE_STATE_NO_MATCH,
    State.UPCOMING: pb.RULE_STATE_UPCOMING,
    State.EXPIRED: pb.RULE_STATE_EXPIRED,
    State.SHADOWED: pb.RULE_STATE_SHADOWED,
}


def write_explanation(explanation: Explanation, change: int, as_of_us: int) -> pb.ExplainResponse:
    """The response of an explanation."""
    return pb.ExplainResponse(
        visible=explanation.is_visible,
        rules=[
            pb.ExplainedRule(
                rule=message_of_rule(step.rule),
                subject=step.subject,
                through=step.through,
                state=_STATES[step.state],
            )
            for step in explanation.steps
        ],
        by_default=explanation.is_by_default,
        windows=[
            pb.VisibilityWindow(
                from_time=None if start is None else write_time(start),
                to_time=None if end is None else write_time(end),
                visible=is_visible,
            )
            for start, end, is_visible in explanation.windows
        ],
        left_out=explanation.left_out,
        change=change,
        as_of=write_time(as_of_us),
    )


def write_trial(
    view: View,
    trial: Trial,
    differences: Sequence[Difference],
    subjects: Mapping[str, Sequence[Rule]],
    now_us: int,
) -> pb.TryRulesResponse:
    """The response of a trial."""
    budget = Budget()
    return pb.TryRulesResponse(
        differences=[_message_of_difference(view, each) for each in differences],
        useless=[
            pb.UselessRule(subject=subject, priority=rule.priority, state=_STATES[state])
            for subject, rules in subjects.items()
            for rule, state in find_useless(sorted(rules, key=lambda rule: rule.priority), now_us, budget)
        ],
        affected_count=len(trial.affected),
        change=view.change,
    )


def _message_of_difference(view: View, each: Difference) -> pb.Difference:
    return pb.Difference(
        viewers=[_message_of_viewers(viewers) for viewers in each.viewers],
        from_time=None if each.from_us is None else write_time(each.from_us),
        to_time=None if each.to_us is None else write_time(each.to_us),
        appear_count=len(each.appear),
        disappear_count=len(each.disappear),
        appear_ids=_ids(view, each.appear),
        disappear_ids=_ids(view, each.disappear),
    )


def _message_of_viewers(viewers: Viewers) -> pb.Viewers:
    countries, applications, platforms = (
        ["*" if code == OTHER else code for code in codes]
        for codes in (viewers.countries, viewers.applications, viewers.platforms)
    )
    return pb.Viewers(countries=countries, applications=applications, platforms=platforms)


def _ids(view: View, ordinals: BitMap) -> list[str]:
    return [unpack(each) for each in sorted(view.ids.packed[ordinal] for ordinal in ordinals)[:_MOST_IDS]]
