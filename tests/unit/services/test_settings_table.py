from services.settings_table import settings_table


def test_every_setting_says_what_it_is() -> None:
    rows = [line for line in settings_table().splitlines() if line.startswith("| `TALLY_")]
    assert len(rows) > 40
    assert not [row for row in rows if row.endswith("|  |")]
