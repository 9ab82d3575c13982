"""One batch of a client, followed through the partitioner and the shard to the journal commit and the flush."""

from itertools import pairwise

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.trace import Tracer

from libs.telemetry.setup import open_telemetry
from tally.client import Client, Event
from tests.support.otlp import Collector, open_collector
from tests.support.stack import OpenService

METHOD = "tally.ingest.v1.IngestService/ProcessEvents"


async def send_batch(address: str, tracer: Tracer | None) -> None:
    async with Client(address, tracer=tracer) as client:
        await client.process_many([Event("video"), Event("other")])


def links_of(span: ProtoSpan) -> list[bytes]:
    return [link.span_id for link in span.links]


async def test_one_trace_leads_from_the_clients_batch_to_the_journal_commit_and_is_linked_to_the_flush(
    open_service: OpenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_collector() as collector:
        await trace(collector, open_service, monkeypatch, client_is_traced=True)
        spans = {span.name: span for span in collector.spans if span.name != METHOD}
        calls = {span.kind: span for span in collector.spans if span.name == METHOD}
        way = [
            spans["batch"],
            calls[ProtoSpan.SPAN_KIND_CLIENT],
            calls[ProtoSpan.SPAN_KIND_SERVER],
            spans["append"],
            spans["counting append"],
            spans["journal commit"],
        ]
        assert {span.trace_id for span in way} == {way[0].trace_id}
        for parent, child in pairwise(way):
            assert child.parent_span_id == parent.span_id
        # Commit and flush may serve many traces: they are linked to each of them, and children of none.
        group, flush = spans["journal commit group"], spans["flush"]
        assert links_of(group) == [spans["append"].span_id]
        assert links_of(flush) == [span.span_id for span in collector.spans if span.name == "journal commit"]
        assert way[0].trace_id not in {group.trace_id, flush.trace_id}
        assert group.trace_id != flush.trace_id


async def test_of_a_request_that_is_not_sampled_nothing_is_recorded_anywhere(
    open_service: OpenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_collector() as collector:
        await trace(collector, open_service, monkeypatch, client_is_traced=False)
        assert [span.name for span in collector.spans] == []


async def trace(
    collector: Collector,
    open_service: OpenService,
    monkeypatch: pytest.MonkeyPatch,
    *,
    client_is_traced: bool,
) -> None:
    """Send a batch to services that trace nothing on their own."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("TALLY_TELEMETRY__TRACE_RATIO", "0")
    async with open_service("all") as stack:
        if not client_is_traced:
            await send_batch(stack.address, None)
            return
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        with open_telemetry("client") as client:
            monkeypatch.delenv("OTEL_TRACES_SAMPLER")
            await send_batch(stack.address, client.tracer)
