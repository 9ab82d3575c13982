"""The role of each method, as the servers find it, and methods that have none."""

from typing import Any

import pytest

from libs.rpc.security.access import Access, RolesSettings
from libs.rpc.security.callers import make_caller
from libs.rpc.security.roles import ROLES, role_of, with_included
from services.registry import SERVICES
from tally.contract.errors import PermissionDenied

METHODS = [
    f"/{method.containing_service.full_name}/{method.name}"
    for service in SERVICES
    for served in service.serves
    for method in served.methods
]


@pytest.mark.parametrize("method", METHODS)
def test_the_role_of_every_method_is_found(method: str) -> None:
    assert role_of(method) in ROLES


@pytest.mark.parametrize(
    "method", ["/tally.ingest.v1.IngestService/Unknown", "/other.Service/Method", "/", ""]
)
def test_a_method_without_a_role_is_for_nobody(method: str) -> None:
    everybody = make_caller("everybody", sorted(ROLES))
    gate = Access(lambda _: everybody, RolesSettings()).gate(method)
    assert gate is not None
    context: Any = None
    with pytest.raises(PermissionDenied, match="names no role"):
        gate(context)


def test_who_operates_or_is_a_service_may_read_and_nobody_gets_another_role() -> None:
    assert with_included(["operate"]) == {"operate", "read"}
    assert with_included(["internal"]) == {"internal", "read"}
    assert with_included(["write"]) == {"write"}
