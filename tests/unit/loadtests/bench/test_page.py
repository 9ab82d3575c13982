"""What the pages say is what was measured."""

import json
from pathlib import Path

import pytest

from loadtests.bench.__main__ import JSON, PAGES, PLOT
from loadtests.bench.page import RENDERERS, render_figures, renew

KEPT = json.loads(JSON.read_text())


@pytest.mark.parametrize("kind", RENDERERS)
def test_the_pages_have_the_figures_of_the_run_that_is_kept_and_its_plot(kind: str) -> None:
    page = PAGES[kind].read_text()
    assert f"<!-- {kind} -->\n{RENDERERS[kind](KEPT)}<!-- end of {kind} -->\n" in page
    assert PLOT.is_file()
    assert PLOT.name in page


def test_the_figures_take_the_place_of_those_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    renew(page, "figures", KEPT)
    figures = render_figures(KEPT)
    assert page.read_text() == f"# before\n<!-- figures -->\n{figures}<!-- end of figures -->\nafter\n"
    assert all(result["name"] in figures for result in KEPT["results"])


def test_a_page_without_a_place_for_them_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- figures -->\nno end")
    with pytest.raises(ValueError, match="has no place for the figures"):
        renew(page, "figures", KEPT)
    assert page.read_text() == "<!-- figures -->\nno end"
