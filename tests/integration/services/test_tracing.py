"""One CountEvent, followed from the partitioner through the shard to the journal commit."""

from itertools import pairwise

import pytest

from tests.support.entries import new_id
from tests.support.otlp import open_collector
from tests.support.stack import OpenService


async def test_one_trace_leads_from_the_call_to_the_journal_commit(
    open_service: OpenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
        async with open_service("all") as stack:
            await stack.client.count("video", request_id=str(new_id()))
        spans = {span.name: span for span in collector.spans}
        call = spans["tally.ingest.v1.IngestService/CountEvent"]
        way = [call, spans["append"], spans["counting append"], spans["journal commit"]]
        assert {span.trace_id for span in way} == {call.trace_id}
        for parent, child in pairwise(way):
            assert child.parent_span_id == parent.span_id
        # The commit may serve many traces: it is linked to each of them, and a child of none.
        group = spans["journal commit group"]
        assert [link.span_id for link in group.links] == [spans["append"].span_id]
        assert group.trace_id != call.trace_id
