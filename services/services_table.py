"""The table of the services for readers, made from the table itself: `python -m services.services_table`."""

from collections.abc import Iterable

from services.registry import SERVICES, Service

_HEAD = """# Services

Made by `make docs` from `services/registry.py`; a test fails when it is old. What the front proxy makes public is in
bold. A service starts after those above it. Each has its code in `services/<name>/`, its settings in `TALLY_<NAME>__…`
and its tables in the Postgres schema of its name.

| service | what it does | serves | calls | needs | reads the tables of | in a cluster |
|---|---|---|---|---|---|---|
"""


def services_table() -> str:
    """The page `docs/services.md`."""
    return _HEAD + "".join(f"| {' | '.join(_row(service))} |\n" for service in SERVICES)


def _row(service: Service) -> Iterable[str]:
    names = [(f"`{each.full_name}`", each in service.routed) for each in service.serves]
    yield f"`{service.name}`"
    yield service.purpose
    yield _listed(f"**{name}**" if is_public else name for name, is_public in names)
    yield _listed(service.calls)
    yield _listed(sorted(need.value for need in service.needs))
    yield _listed(sorted(service.reads))
    yield str(service.replicas)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "—"


if __name__ == "__main__":
    print(services_table(), end="")  # noqa: T201 - this is what it is for
