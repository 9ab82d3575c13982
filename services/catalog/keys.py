"""The names of the projection's keys in Valkey. They are the source's, without a prefix."""

TOKEN = "catalog:token"  # noqa: S105 - the name of a key
"""Whose projection it is, and of which epoch. It is written last: where it is, the projection is complete."""
POSITION = "catalog:position"
"""The change that the projection holds."""
BUILDING = "catalog:building"
"""The writer that rebuilds the projection."""

SORTS = "s:"
PREFIXES = ("r:", "s:", "hb:")
"""The prefixes of the catalog's keys, except those above."""


def resource_key(resource_id: str) -> str:
    """A hash: details, version, and the value of each sort."""
    return f"r:{resource_id}"


def set_key(key: str) -> str:
    """A set of ids: `r:x:t:clips` of an index, `r:1000c:videos` of the children of a resource."""
    return f"r:{key}" if key[:1].isdigit() else f"r:x:{key}"


def list_key(key: str) -> str:
    """A sorted set of ids, by the time of adding: `r:9002u:subscriptions`, `r:list:featured`."""
    return f"r:{key}"


def tracker_key(resource_id: str) -> str:
    """A set of the keys that a resource is in, so that a delete serves every type."""
    return f"r:i:{resource_id}"


def sort_key(name: str) -> str:
    """A sorted set of the ids that have a value for a sort."""
    return f"{SORTS}{name}"
