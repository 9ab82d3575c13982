"""The role that each method needs, as its proto says: `option (tally.common.v1.role)`."""

from collections.abc import Iterable

from google.protobuf import descriptor_pool

from tally.common.v1 import access_pb2

WRITE, READ, OPERATE, INTERNAL = "write", "read", "operate", "internal"
ROLES = frozenset({WRITE, READ, OPERATE, INTERNAL})

_NAMES = {
    access_pb2.ROLE_WRITE: WRITE,
    access_pb2.ROLE_READ: READ,
    access_pb2.ROLE_OPERATE: OPERATE,
    access_pb2.ROLE_INTERNAL: INTERNAL,
}


def role_of(method: str) -> str | None:
    """The role that a caller of `/service/method` needs; None: the proto does not say, and so nobody may call it."""
    try:
        found = descriptor_pool.Default().FindMethodByName(method.removeprefix("/").replace("/", "."))
    except KeyError:
        return None
    return _NAMES.get(found.GetOptions().Extensions[access_pb2.role])  # type: ignore[index]  # protoc's stub lacks the type


def with_included(roles: Iterable[str]) -> frozenset[str]:
    """The roles and those that they include: who operates, or is a service, may read."""
    found = frozenset(roles)
    return found | {READ} if found & {OPERATE, INTERNAL} else found
