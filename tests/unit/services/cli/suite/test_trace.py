"""The tree of a trace."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from services.cli.suite.trace import Node, Span, make_tree, read_targets, show
from services.cli.terminal.failure import Failure

MS = 1_000_000


def span(
    name: str, parent: str = "", begin: float = 0, end: float = 1, links: Sequence[str] = (), error: str = ""
) -> Span:
    return Span(name, parent, frozenset(links), "counting", name, int(begin * MS), int(end * MS), error)


SPANS = [
    span("flush", begin=900, end=950, links=["commit", "other commit"]),
    span("commit", "append", 3, 7),
    span("group", begin=3, end=7, links=["append"]),
    span("append", "request", 2, 8),
    span("request", begin=0, end=10),
]


def as_text(nodes: list[Node], depth: int = 0) -> list[str]:
    lines = []
    for node in nodes:
        lines += [
            "  " * depth + ("~" if node.is_linked else "") + node.span.name,
            *as_text(node.children, depth + 1),
        ]
    return lines


def test_a_span_is_below_its_parent_and_one_that_is_only_linked_below_its_link() -> None:
    assert as_text(make_tree(SPANS)) == ["request", "  append", "    commit", "      ~flush", "    ~group"]


def test_a_span_whose_parent_is_missing_is_a_root() -> None:
    assert as_text(make_tree([span("commit", "append")])) == ["commit"]


def test_each_line_has_the_process_the_times_and_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [*SPANS, span("tally.ingest.v1.IngestService/Count", "request", 1, 2, error="UNAVAILABLE")], "ab" * 16
    )
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [line.split() for line in lines[1:3]] == [
        ["request", "counting", "+0.00", "ms", "10.00", "ms", "━" * 24],
        ["├─", "IngestService/Count", "UNAVAILABLE", "counting", "+1.00", "ms", "1.00", "ms", "━━"],
    ]
    assert lines[5].split()[-7:] == ["flush", "counting", "+900.00", "ms", "50.00", "ms", "→"]
    assert lines[-1].startswith(f"trace {'ab' * 16}; ~ is a link")


def test_without_a_running_tally_it_is_told_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="tally cluster"):
        read_targets(tmp_path)
