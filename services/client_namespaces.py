"""The namespaces of the client, made from the table of services: `python -m services.client_namespaces`.

A service whose calls users make has a module `tally.client.<name>` with a class `<Name>`; it is `client.<name>`.
"""

from pathlib import Path

from services.registry import SERVICES

_CLIENT = Path(__file__).parents[1] / "libs" / "tally" / "tally" / "client"
PAGE = _CLIENT / "_surface" / "namespaces.py"
_HEAD = '''"""The namespaces of the client, made by `make docs` from the table of services."""

from tally.client._surface.namespace import Namespace
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
            f"    {service.name} = Namespace({service.name.capitalize()})",
            f'    """{service.purpose}"""',
        ]
    return _HEAD + "\n".join([*imports, *lines]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(client_namespaces())
