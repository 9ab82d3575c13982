"""Files that are made from the code and kept beside it are as the code makes them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.manifests import kustomization
from services.services_table import services_table
from services.settings_table import settings_table

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("docs/settings.md", settings_table),
        ("docs/services.md", services_table),
        ("k8s/base/services/kustomization.yaml", kustomization),
    ],
)
def test_a_file_that_is_made_from_the_code_is_what_the_code_says(path: str, make: Callable[[], str]) -> None:
    assert (_ROOT / path).read_text() == make(), "run `make docs`"
