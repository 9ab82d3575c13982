"""`tally trace`: count one event, and show its trace as a tree with times."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import format_trace_id
from rich.table import Table
from rich.text import Text

from libs.telemetry.targets import path_in, read_addresses
from services.cli.terminal.calling import explain
from services.cli.terminal.failure import REFUSED, Failure
from services.cli.terminal.output import open_console
from tally.client import Client, Event, TallyError

_ASK_SECONDS = 3.0
_POLL_SECONDS = 0.1
_LAST = "flush"
_BAR = 24


@dataclass(frozen=True, slots=True)
class Span:
    """A span of the trace, or one that is linked to it."""

    id: str
    parent: str
    links: frozenset[str]
    service: str
    name: str
    begin_ns: int
    end_ns: int
    error: str = ""
    details: str = ""


@dataclass(slots=True)
class Node:
    """A span in the tree, below the one that caused it."""

    span: Span
    is_linked: bool
    children: "list[Node]" = field(default_factory=list)


def trace(
    address: str, video_id: str, event_type: str, targets: Sequence[str], data_dir: Path, seconds: float
) -> str:
    """Count an event and print its trace; the id of the trace. Raises Failure."""
    places = list(targets) or read_targets(data_dir)
    try:
        trace_id, own = asyncio.run(_count(address, video_id, event_type))
    except TallyError as error:
        raise explain(error, address) from error
    spans = asyncio.run(_collect(places, trace_id, own, seconds))
    show(spans, trace_id)
    if all(span.service == own[0].service for span in spans):
        raise Failure(
            "the event is counted, but its trace is with other processes: name the telemetry endpoint of each with "
            "--target HOST:PORT",
            REFUSED,
        )
    return trace_id


def read_targets(data_dir: Path) -> list[str]:
    """The HTTP endpoints of the Tally that runs on this data folder. Raises Failure."""
    try:
        return read_addresses(data_dir)
    except (OSError, ValueError) as error:
        raise Failure(
            f"there is no {path_in(data_dir)} of a running Tally with traces. Start one with `tally cluster`, or with "
            "TALLY_TELEMETRY__ADDRESS=127.0.0.1:9464 tally up; or name the processes with --target HOST:PORT",
            REFUSED,
        ) from error


async def _count(address: str, video_id: str, event_type: str) -> tuple[str, list[Span]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(
        sampler=ALWAYS_ON, resource=Resource({"service.name": "tally trace"}), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with Client(address, tracer=provider.get_tracer("tally")) as client:
        await client.process_many([Event(video_id, event_type)])
    finished = exporter.get_finished_spans()
    spans = read_spans(encode_spans(finished))
    return format_trace_id(finished[0].context.trace_id), spans


async def _collect(targets: Sequence[str], trace_id: str, own: Sequence[Span], seconds: float) -> list[Span]:
    """The spans of all processes, once the flush is among them or the time is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        answers = await asyncio.gather(*(asyncio.to_thread(_ask, target, trace_id) for target in targets))
        spans = {span.id: span for answer in (own, *answers) for span in answer}
        if any(span.name == _LAST for span in spans.values()) or loop.time() >= until:
            return list(spans.values())
        await asyncio.sleep(_POLL_SECONDS)


def _ask(target: str, trace_id: str) -> list[Span]:
    """What one process has of a trace; nothing if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{target}/traces/{trace_id}", timeout=_ASK_SECONDS) as answer:
            return read_spans(ExportTraceServiceRequest.FromString(answer.read()))
    except (OSError, urllib.error.URLError):
        return []


def read_spans(request: ExportTraceServiceRequest) -> list[Span]:
    """The spans of an export of OTLP."""
    found = []
    for group in request.resource_spans:
        service = _read_attributes(group.resource.attributes).get("service.name", "")
        for scope in group.scope_spans:
            for span in scope.spans:
                attributes = _read_attributes(span.attributes)
                found.append(
                    Span(
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        frozenset(link.span_id.hex() for link in span.links),
                        str(service).removeprefix("tally-"),
                        span.name,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        str(attributes.get("error.type", "")),
                        _kind_of(span.kind),
                    )
                )
    return found


def _read_attributes(attributes: Iterable[Any]) -> Mapping[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _kind_of(kind: int) -> str:
    return {2: "server", 3: "client"}.get(kind, "")


def make_tree(spans: Iterable[Span]) -> list[Node]:
    """The roots, each with what is below it in the order of time; a span that is only linked is below its last link."""
    nodes = {span.id: Node(span, is_linked=False) for span in sorted(spans, key=lambda span: span.begin_ns)}
    roots = []
    for node in nodes.values():
        links = [nodes[link] for link in node.span.links if link in nodes]
        if above := nodes.get(node.span.parent):
            above.children.append(node)
        elif links:
            node.is_linked = True
            max(links, key=lambda each: each.span.end_ns).children.append(node)
        else:
            roots.append(node)
    return roots


def show(spans: Sequence[Span], trace_id: str) -> None:
    """Print the tree: a line for each span, with the process, when it began, how long it took, and a bar."""
    console = open_console()
    begin = min(span.begin_ns for span in spans)
    end = max(span.end_ns for span in spans if not _is_flush(span))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("span", no_wrap=True)
    table.add_column("process", style="cyan", no_wrap=True)
    table.add_column("begins", justify="right", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line, node in _lines(make_tree(spans)):
        span = node.span
        table.add_row(
            line,
            span.service,
            f"+{(span.begin_ns - begin) / 1e6:,.2f} ms",
            f"{(span.end_ns - span.begin_ns) / 1e6:,.2f} ms",
            _bar(span, begin, end),
        )
    console.print()
    console.print(table)
    console.print()
    console.print(
        f"trace {trace_id}; ~ is a link: that span serves other requests too", style="dim", soft_wrap=True
    )


def _is_flush(span: Span) -> bool:
    return span.name == _LAST


def _lines(roots: Sequence[Node], indent: str = "") -> Iterable[tuple[Text, Node]]:
    for number, node in enumerate(roots):
        is_last = number == len(roots) - 1
        branch, below = (
            ("", "") if not indent and len(roots) == 1 else ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        )
        text = Text()
        text.append(indent + branch, style="dim")
        text.append("~ " if node.is_linked else "", style="yellow")
        text.append(
            _short(node.span.name), style="bold red" if node.span.error else "bold" if not indent else ""
        )
        if node.span.details:
            text.append(f" ({node.span.details})", style="dim")
        if node.span.error:
            text.append(f" {node.span.error}", style="red")
        yield text, node
        yield from _lines(node.children, (indent + below) or " ")


def _short(name: str) -> str:
    """A method without its package."""
    return name.rpartition(".")[2]


def _bar(span: Span, begin_ns: int, end_ns: int) -> Text:
    """Where in the request the span was; what came after it is an arrow."""
    if span.begin_ns >= end_ns:
        return Text(" " * _BAR + "→", style="dim")
    scale = _BAR / max(1, end_ns - begin_ns)
    left = min(_BAR - 1, int((span.begin_ns - begin_ns) * scale))
    width = max(1, min(_BAR - left, round((span.end_ns - span.begin_ns) * scale)))
    return Text(" " * left + "━" * width, style="red" if span.error else "green")
