"""The table of all settings, made from the settings themselves: `python -m services.settings_table`."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.settings import Settings

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
        for name, default, description in _list_settings(Settings, Settings(), "TALLY_")
    )
    return _HEAD + "\n".join(rows) + "\n"


def _list_settings(model: type[BaseModel], values: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in model.model_fields.items():
        value, variable = getattr(values, name), f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _list_settings(type(value), value, f"{variable}__")
        else:
            yield variable, field.get_default(call_default_factory=True), _described(field)


def _described(field: FieldInfo) -> str:
    return (field.description or "").strip().rstrip(".")


def _shown(default: Any) -> str:
    if default is None or default in ("", ()):
        return "—"
    return f"`{default}`"


if __name__ == "__main__":
    print(settings_table(), end="")  # noqa: T201  this is what it is for
