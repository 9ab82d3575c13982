"""`tally catalog explain`: why a viewer may or may not see a resource."""

from collections.abc import Sequence

from services.cli.catalog.rules import describe_times
from services.cli.catalog.viewers import read_viewer
from services.cli.terminal.calling import call
from services.cli.terminal.output import make_table, open_console
from tally.catalog.v1 import rights_pb2

_STATES = {
    rights_pb2.RULE_STATE_DECIDES: "decides",
    rights_pb2.RULE_STATE_LATER: "matches, too late",
    rights_pb2.RULE_STATE_NO_MATCH: "does not match",
    rights_pb2.RULE_STATE_UPCOMING: "not yet",
    rights_pb2.RULE_STATE_EXPIRED: "expired",
    rights_pb2.RULE_STATE_SHADOWED: "shadowed: never decides",
}


def explain(address: str, resource_id: str, viewer: str, sets: Sequence[str], sort: str) -> None:
    """Ask and print. Raises Failure."""
    request = rights_pb2.ExplainRequest(
        id=resource_id,
        viewer=read_viewer(viewer),
        filters=[rights_pb2.ExplainedFilter(any=each.split(",")) for each in sets],
        sort=sort,
    )
    found = call(address, lambda client: client.catalog.explain(request))
    console = open_console()
    seen = "may see" if found.visible else "may not see"
    console.print(f"{viewer} {seen} {resource_id}, by change {found.change} at {found.as_of.ToJsonString()}")
    table = make_table(
        console,
        "Rules, in order",
        "subject",
        "through",
        "#priority",
        "allow",
        "who",
        "when",
        "state",
        "reason",
    )
    for each in found.rules:
        rule = each.rule
        who = "/".join(",".join(c) or "any" for c in (rule.countries, rule.applications, rule.platforms))
        table.add_row(
            each.subject,
            each.through,
            str(rule.priority),
            "yes" if rule.allow else "no",
            who,
            _times(rule),
            _STATES.get(each.state, "?"),
            rule.reason,
        )
    console.print(table)
    if found.by_default:
        console.print("no rule decides, so the default does")
    for window in found.windows:
        console.print(f"{'visible' if window.visible else 'hidden'} {describe_times(window)}")
    for sentence in found.left_out:
        console.print(sentence)


def _times(rule: rights_pb2.Rule) -> str:
    start = rule.from_time.ToJsonString() if rule.HasField("from_time") else ""
    end = rule.to_time.ToJsonString() if rule.HasField("to_time") else ""
    return f"{start} to {end}" if start or end else "always"
