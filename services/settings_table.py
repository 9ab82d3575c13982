"""The table of all settings, made from the settings themselves: `python -m services.settings_table`."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from services.settings import model_of_all

_HEAD = """# Settings

Made by `make docs` from the code; a test fails when it is old. Each setting is an environment variable. Tuples are
written as JSON.

| variable | default | what it is |
|---|---|---|
"""


def settings_table() -> str:
    """The page `docs/settings.md`."""
    rows = (
        f"| `{name}` | {_shown(default)} | {description} |"
        for name, default, description in _list_settings(model_of_all(), "TALLY_")
    )
    return _HEAD + "\n".join(rows) + "\n"


def _list_settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in model.model_fields.items():
        default, variable = field.get_default(call_default_factory=True), f"{prefix}{name.upper()}"
        if isinstance(default, BaseModel):
            yield from _list_settings(type(default), f"{variable}__")
        else:
            yield variable, default, field.description or ""


def _shown(default: Any) -> str:
    if default is None or default in ("", ()):
        return "—"
    return f"`{default}`"


if __name__ == "__main__":
    print(settings_table(), end="")  # noqa: T201 - this is what it is for
