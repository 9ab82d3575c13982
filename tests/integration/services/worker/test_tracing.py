"""A slot in one trace: the lease from the scheduler, the worker, and the call of the api."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import SecretStr

from libs.telemetry.setup import open_telemetry
from loadtests.youtube.meter import Meter
from loadtests.youtube.simulator import Simulator, open_simulator
from loadtests.youtube.videos import Catalog, Video
from services.worker.handlers.handler import CallFailed, Item
from services.worker.handlers.metadata import open_metadata
from services.worker.measuring import Measuring
from services.worker.settings import YoutubeSettings
from services.worker.threads import Threads
from tests.support.otlp import Collector, open_collector


async def call_api(monkeypatch: pytest.MonkeyPatch, collector: Collector, key: str | None = None) -> None:
    """A slot with one batch, of a handler in a thread, against the simulated api."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    simulator = Simulator(Catalog([Video("a", "title", "channel")]), Meter())
    with open_telemetry("worker") as telemetry:
        async with open_simulator(simulator):
            youtube = YoutubeSettings(api_key=SecretStr(key or simulator.key), endpoint=simulator.url)
            handler = open_metadata(youtube, telemetry)
            measuring = Measuring(telemetry, lanes=2)
            with (
                measuring.slot() as span,
                measuring.work(span, "slot", "job", handler.name),
                measuring.batch(handler.name, 1),
            ):
                await Threads().run(lambda: handler.handle([Item("a", {})]), 10)
            handler.close()


def attributes_of(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_the_call_of_the_api_is_a_child_of_its_batch_and_shows_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_collector() as collector:
        await call_api(monkeypatch, collector)
        spans = {span.name: span for span in collector.spans}
    slot, batch, get = spans["slot"], spans["batch"], spans["GET"]
    assert (batch.parent_span_id, get.parent_span_id) == (slot.span_id, batch.span_id)
    found = attributes_of(get)
    assert (found["http.request.method"], found["http.response.status_code"]) == ("GET", 200)
    assert str(found["url.full"]).endswith("/youtube/v3/videos")
    assert "simulated-key" not in str(get)
    assert attributes_of(slot) == {"tally.slot": "slot", "tally.job": "job", "tally.handler": "metadata"}


async def test_a_call_that_the_api_refuses_is_an_error_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_collector() as collector:
        with pytest.raises(CallFailed):
            await call_api(monkeypatch, collector, key="wrong")
        spans = {span.name: span for span in collector.spans}
        (point,) = next(
            metric.histogram.data_points
            for metric in collector.metrics
            if metric.name == "tally.worker.batch.duration"
        )
    assert str(attributes_of(spans["GET"])["error.type"]).startswith("4")
    assert spans["batch"].status.message == "CallFailed"
    labels = {each.key: each.value.string_value for each in point.attributes}
    assert labels == {"handler": "metadata", "error.type": "CallFailed"}
