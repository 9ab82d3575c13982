"""What the projection must hold: its token, and of each resource keys, sort values and fields."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.stores.schema import Cluster
from services.catalog import keys
from services.catalog.feed import EPOCH_BITS
from services.catalog.layout import Layouts, name_scores
from services.catalog.settings import Part


def make_token(cluster: Cluster, change: int, parts: Sequence[Part]) -> str:
    """Names the cluster, its epoch, that of the feed, and what is projected."""
    return f"{cluster.cluster_id}:{cluster.epoch}:{change >> EPOCH_BITS}:{','.join(sorted(set(parts)))}"


@dataclass(frozen=True, slots=True)
class Projected:
    """One resource in Valkey; without fields and keys it is not there."""

    id: str
    keys: Sequence[str] = ()
    """sets that it is in"""
    sorts: dict[str, str] = field(default_factory=dict)
    """values by sort"""
    fields: dict[str, str] = field(default_factory=dict)
    """of its hash"""

    def to_json(self) -> dict[str, Any]:
        """The argument of the functions in Valkey."""
        flat = [text for pair in self.fields.items() for text in pair]
        return {"id": self.id, "keys": self.keys, "sorts": self.sorts, "fields": flat}


def project(row: Any, layouts: Layouts, parts: Sequence[Part]) -> Projected:
    """What a row of the record is in Valkey."""
    named = name_scores(layouts, row["layout"], row["scores"])
    scores = {name: repr(score) for name, score in named.items()}
    fields = {"details": row["details"].decode(), "version": str(row["version"]), **scores}
    has_sets = "sets" in parts
    return Projected(
        row["id"],
        [keys.set_key(key) for key in row["keys"]] if has_sets else (),
        scores if has_sets else {},
        fields if "details" in parts else {},
    )
