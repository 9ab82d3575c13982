"""The namespaces of the client, made from the table of services: `python -m services.client_namespaces`.

A service that users call has a module `tally.client.<name>` with a class `<Name>`, which is a Namespace and becomes
`client.<name>`.
"""

from pathlib import Path

from services.registry import SERVICES

_CLIENT = Path(__file__).parents[1] / "libs" / "tally" / "tally" / "client"
PAGE = _CLIENT / "_surface" / "namespaces.py"
_HEAD = '''"""The namespaces of the client, made by `make docs` from the table of services."""

from tally.client._calls.namespace import Attached
'''


def client_namespaces() -> str:
    """The module with a namespace for each service."""
    services = sorted(
        (service for service in SERVICES if (_CLIENT / f"{service.name}.py").is_file()),
        key=lambda service: service.name,
    )
    imports = [f"from tally.client.{service.name} import {service.name.capitalize()}" for service in services]
    lines = [
        "",
        "",
        "class Namespaces:",
        '    """A part of the client for each service that users call."""',
        "",
    ]
    for service in services:
        lines += [
            f"    {service.name} = Attached({service.name.capitalize()})",
            f'    """{service.purpose}"""',
        ]
    return _HEAD + "\n".join([*imports, *lines]) + "\n"


def replace_file(path: Path, text: str) -> None:
    """Write it all or not at all: what makes the next file imports this one. Other links to the old file keep it."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


if __name__ == "__main__":
    replace_file(PAGE, client_namespaces())
