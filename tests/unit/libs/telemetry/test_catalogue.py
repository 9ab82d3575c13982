"""The catalogue is one list, without two of a name."""

import re

import pytest
from opentelemetry.metrics import NoOpMeter

from libs.telemetry import catalogue
from libs.telemetry.catalogue import Kind, Metric


def test_every_constant_is_listed_once() -> None:
    constants = [value for value in vars(catalogue).values() if isinstance(value, Metric)]
    assert list(catalogue.ALL) == constants
    assert len({metric.name for metric in constants}) == len(constants)


@pytest.mark.parametrize("metric", catalogue.ALL, ids=lambda metric: metric.name)
def test_names_and_units_keep_to_one_form(metric: Metric) -> None:
    assert re.fullmatch(r"(tally|rpc|process)(\.[a-z_]+)+", metric.name)
    assert re.fullmatch(r"s|By|1|\{[a-z_]+\}", metric.unit)
    assert metric.description.endswith(".")
    # Prometheus has labels of its own by these names, and renames those of the metric.
    assert {"job", "instance"}.isdisjoint(metric.attributes)


def test_a_metric_is_made_only_as_what_it_is() -> None:
    metric = Metric("tally.some.size", Kind.GAUGE, "By", "Some size.")
    with pytest.raises(ValueError, match="is a gauge, not a counter"):
        catalogue.counter(NoOpMeter("tally"), metric)
