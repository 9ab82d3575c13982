"""Gauges as an exporter sees them."""

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from libs.telemetry.catalogue import Metric


def read_gauge(reader: InMemoryMetricReader, gauge: Metric) -> list[float]:
    """Its values now; none if it reports nothing."""
    data = reader.get_metrics_data()
    return [
        point.value
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == gauge.name
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    ]
