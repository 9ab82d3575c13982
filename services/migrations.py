"""The migrations of all services: numbered SQL files in `services/<name>/migrations/`, each in the order of its number.

A service owns the tables in the Postgres schema of its name. Migrations of a service come after those of the services
before it in the table.
"""

from collections.abc import Sequence
from functools import cache
from importlib import resources

from libs.stores.schema import Migration
from services.registry import SERVICES


@cache
def list_migrations() -> Sequence[Migration]:
    """Every migration, in the order in which they are applied."""
    return tuple(migration for service in SERVICES for migration in _migrations_of(service.name))


def _migrations_of(service: str) -> list[Migration]:
    folder = resources.files(f"services.{service}") / "migrations"
    if not folder.is_dir():
        return []
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [Migration(f"{service}/{file.name.removesuffix('.sql')}", file.read_text()) for file in files]
