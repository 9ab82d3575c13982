"""What the page says is what was measured."""

import json
from pathlib import Path

import pytest

from loadtests.bench.__main__ import JSON, PAGE, PLOT
from loadtests.bench.page import BEGIN, END, render_figures, write_figures


def test_the_page_has_the_figures_of_the_run_that_is_kept_and_its_plot() -> None:
    page = PAGE.read_text()
    assert f"{BEGIN}{render_figures(json.loads(JSON.read_text()))}{END}" in page
    assert PLOT.is_file()
    assert PLOT.name in page


def test_the_figures_take_the_place_of_those_before(tmp_path: Path) -> None:
    page, document = tmp_path / "page.md", json.loads(JSON.read_text())
    page.write_text(f"# before\n{BEGIN}old\n{END}after\n")
    write_figures(page, document)
    assert page.read_text() == f"# before\n{BEGIN}{render_figures(document)}{END}after\n"
    assert all(result["name"] in page.read_text() for result in document["results"])


def test_a_page_without_a_place_for_them_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}no end")
    with pytest.raises(ValueError, match="has no place for the figures"):
        write_figures(page, json.loads(JSON.read_text()))
    assert page.read_text() == f"{BEGIN}no end"
