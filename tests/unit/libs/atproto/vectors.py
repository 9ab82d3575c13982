"""The protocol's interoperability files."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "data" / "atproto-interop"


def read_json(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def read_lines(name: str) -> list[str]:
    """The lines that are no comments and not empty; blanks at their ends belong to them."""
    lines = (FOLDER / name).read_text().split("\n")
    return [line for line in lines if line and not line.startswith("#")]
