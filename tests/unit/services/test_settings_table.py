from pathlib import Path

from services.settings_table import settings_table

_PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_settings_page_is_what_the_code_says() -> None:
    assert _PAGE.read_text() == settings_table(), "make docs"


def test_every_setting_says_what_it_is() -> None:
    rows = [line for line in settings_table().splitlines() if line.startswith("| `TALLY_")]
    assert len(rows) > 40
    assert not [row for row in rows if row.endswith("|  |")]
