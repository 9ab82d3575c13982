"""Files that are made from the code and kept beside it."""

from pathlib import Path

from services import kustomize
from services.monitoring import files as monitoring_files
from services.services_table import services_table
from services.settings_table import settings_table

_ROOT = Path(__file__).parents[3]


def test_each_file_is_as_the_code_makes_it() -> None:
    made = {
        _ROOT / "docs" / "settings.md": settings_table(),
        _ROOT / "docs" / "services.md": services_table(),
    }
    made |= monitoring_files.make_files()
    made |= {kustomize.FOLDER / name: text for name, text in kustomize.make_files().items()}
    assert [path.name for path, text in made.items() if path.read_text() != text] == [], "run `make docs`"
