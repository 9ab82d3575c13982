"""Which parameters a method takes, from the discovery document in the official client's package."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from multidict import MultiMapping

_DOCUMENT = ("discovery_cache", "documents", "youtube.v3.json")


@cache
def read_document() -> Mapping[str, Any]:
    """The document of youtube v3."""
    file = resources.files("googleapiclient").joinpath(*_DOCUMENT)
    document: Mapping[str, Any] = json.loads(file.read_text())
    return document


def read_method(resource: str, method: str) -> Mapping[str, Any]:
    """The description of a method, such as `videos`, `list`."""
    found: Mapping[str, Any] = read_document()["resources"][resource]["methods"][method]
    return found


def find_problem(method: Mapping[str, Any], query: "MultiMapping[str]") -> str | None:
    """Why the api would refuse these parameters; None when it would not."""
    known = {**read_document()["parameters"], **method["parameters"]}
    for name in query:
        if name not in known:
            return f'Invalid JSON payload received. Unknown name "{name}"'
        parameter = known[name]
        if not parameter.get("repeated") and len(query.getall(name)) > 1:
            return f"Parameter {name} is given more than once"
        if problem := _find_wrong(parameter, query.getall(name)):
            return f"Invalid value for {name}: {problem}"
    for name, parameter in method["parameters"].items():
        if parameter.get("required") and not query.get(name):
            return f"Required parameter: {name}"
    return None


def _find_wrong(parameter: Mapping[str, Any], values: Iterable[str]) -> str | None:
    for value in values:
        match parameter["type"]:
            case "integer":
                if not value.lstrip("-").isdecimal():
                    return f"{value!r} is not an integer"
                lowest, highest = parameter.get("minimum"), parameter.get("maximum")
                if (lowest and int(value) < int(lowest)) or (highest and int(value) > int(highest)):
                    return f"{value} is not between {lowest} and {highest}"
            case "boolean" if value not in ("true", "false"):
                return f"{value!r} is neither true nor false"
            case "string" if "enum" in parameter and value not in parameter["enum"]:
                return f"{value!r} is none of {parameter['enum']}"
    return None
