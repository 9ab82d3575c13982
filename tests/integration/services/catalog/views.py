"""Two replicas that must agree: one that follows the feed, and one that reads the record whole."""

from collections.abc import Mapping
from typing import Any

from services.catalog.follower import Follower
from services.catalog.freshness import Freshness
from services.catalog.ids import unpack
from services.catalog.settings import CatalogSettings
from services.catalog.view import View


def open_follower(pool: Any) -> Follower:
    """A replica whose turns a test makes."""
    return Follower(pool, CatalogSettings(), Freshness(60.0, 500.0))


async def catch_up(follower: Follower) -> View:
    """Its view with all that is committed."""
    while await follower.turn() is not None:
        pass
    return follower.view


def describe(view: View) -> Mapping[str, Any]:
    """All that a find may be answered from, without ordinals."""

    def ids(members: Any) -> list[str]:
        return [unpack(view.ids.packed[each]) for each in members]

    return {
        "change": view.change,
        "types": view.types,
        "incomplete": view.incomplete,
        "live": sorted(ids(view.live)),
        "sets": {key: sorted(ids(members)) for key, members in view.sets.items()},
        "values": {name: keys for name, keys in view.values.items() if keys},
        "orders": {name: ids(order.ordinals.tolist()) for name, order in view.orders.items()},
        "scores": {name: order.scores.tolist() for name, order in view.orders.items()},
        "versions": {each: view.versions[view.ids.find(_packed(view, each)) or 0] for each in ids(view.live)},
        "rules": view.rights.rules,
        "groups": {path: sorted(ids(members)) for path, members in view.rights.groups.items()},
        "dimensions": view.rights.dimensions,
    }


def _packed(view: View, resource_id: str) -> int:
    ordinal = view.find(resource_id)
    assert ordinal is not None
    return view.ids.packed[ordinal]


async def check_agreement(pool: Any, follower: Follower) -> None:
    """What the feed has told is what the record has."""
    fresh = open_follower(pool)
    followed, read = describe(await catch_up(follower)), describe(await catch_up(fresh))
    for name, what in followed.items():
        assert what == read[name], name
    await fresh.leave()
