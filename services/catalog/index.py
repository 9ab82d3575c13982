"""The data of a replica in memory, and the next view after a batch of changes.

Rows are staged, and `publish` makes a view of all that was staged since the last one. It holds the event loop for a few
milliseconds at a time. An index whose `publish` was interrupted must not be used any more.
"""

import asyncio
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from services.catalog.ids import is_id, pack, unpack
from services.catalog.moves import Move, MoveLog, Scores
from services.catalog.order import BY_ID, MISSING, Order, empty_order
from services.catalog.resource_type import ResourceType
from services.catalog.rights import Path, Rights
from services.catalog.rule import Dimensions, Rule
from services.catalog.view import Ids, View

MAX_DEPTH = 8
_PIECE = 500
_NONE = -1


@dataclass(frozen=True, slots=True)
class Row:
    """A resource as far as a view needs it."""

    id: str
    parent: str | None
    keys: Sequence[str]
    scores: Scores
    version: int


class Index:
    """The newest state of the catalog, and what was staged on top of it."""

    def __init__(self, *, default_allow: bool, kept_moves: int = 50_000) -> None:
        """`kept_moves`: those within an order by which pages of an earlier version are made."""
        self._default_allow = default_allow
        self._moves = MoveLog(kept_moves)
        self.types: dict[str, ResourceType] = {}
        self._incomplete = frozenset[str]()
        self.dimensions = Dimensions()
        self._ids = Ids()
        self._versions = array("q")
        self._parents = array("q")
        self._children: dict[int, BitMap] = {}
        """The inverse of the parents. A set of children does not do: its name is that of a type, which can change."""
        self._of_suffix: defaultdict[str, BitMap] = defaultdict(BitMap)
        self._live = BitMap()
        self._sets: dict[str, BitMap] = {}
        self._values: dict[str, frozenset[str]] = {}
        self._orders: dict[str, Order] = {}
        self._rules: dict[str, tuple[Rule, ...]] = {}
        self._paths: dict[int, Path] = {}
        self._groups: dict[Path, BitMap] = {}
        self._rights = Rights({}, {}, self.dimensions, default_allow=default_allow)
        # Staged:
        self._joins: defaultdict[str, list[int]] = defaultdict(list)
        self._leaves: defaultdict[str, list[int]] = defaultdict(list)
        self._put: dict[int, Mapping[str, float]] = {}
        self._deleted: list[int] = []
        self._moved: dict[int, Scores | None] = {}
        self._ruled_anew: set[str] = set()
        self._is_ruled_anew = False

    def __len__(self) -> int:
        return len(self._live) + len(self._put)

    def stage_types(self, types: Iterable[ResourceType], incomplete: Iterable[str] = ()) -> None:
        """Replace all types. `incomplete`: the names of what is being reindexed, as `reindexing` has them."""
        self.types = {each.suffix: each for each in types}
        self._incomplete = frozenset(incomplete)
        self._is_ruled_anew = True

    def stage_dimensions(self, dimensions: Dimensions) -> None:
        """Replace the codes that are registered."""
        self.dimensions = dimensions
        self._is_ruled_anew = True

    def stage_rules(self, subject: str, rules: Sequence[Rule]) -> None:
        """Replace the rules of a subject."""
        # Rights refer to the rules: those of a view that is in use must stay.
        self._rules = {name: each for name, each in self._rules.items() if name != subject}
        if rules:
            self._rules[subject] = tuple(sorted(rules, key=lambda rule: rule.priority))
        self._ruled_anew.add(subject)

    def stage_move(self, change: int, resource_id: str, scores: Scores | None) -> None:
        """Note which values a change gave to a resource; None: it removed it. In the order of changes, before rows."""
        ordinal = self._give(resource_id)
        before = self._moved[ordinal] if ordinal in self._moved else self._scores_of(ordinal)
        if before != scores:
            self._moves.add(Move(change, ordinal, before))
        self._moved[ordinal] = scores

    def begin_moves(self, change: int) -> None:
        """The next view is the first: nothing is known of the orders before this change."""
        self._moves.begin(change)

    def stage_resource(self, row: Row, removed: Collection[str] = ()) -> None:
        """Put a resource. `removed`: every set that it has left since the last view, and perhaps entered again."""
        ordinal = self._give(row.id)
        for key in set(removed).difference(row.keys):
            self._leaves[key].append(ordinal)
        for key in row.keys:
            self._joins[key].append(ordinal)
        self._put[ordinal] = row.scores
        self._versions[ordinal] = row.version
        self._hang(ordinal, _NONE if row.parent is None else self._give(row.parent))

    def stage_deleted(self, resource_id: str, removed: Collection[str]) -> None:
        """Remove a resource. `removed`: every set that it was in at the last view, or has left since."""
        ordinal = self._ids.find(pack(resource_id))
        if ordinal is None:
            return
        for key in removed:
            self._leaves[key].append(ordinal)
        self._deleted.append(ordinal)
        self._hang(ordinal, _NONE)

    def _hang(self, ordinal: int, parent: int) -> None:
        if (before := self._parents[ordinal]) == parent:
            return
        if before != _NONE:
            self._children[before].discard(ordinal)
            if not self._children[before]:
                del self._children[before]
        if parent != _NONE:
            self._children.setdefault(parent, BitMap()).add(ordinal)
        self._parents[ordinal] = parent

    def _give(self, resource_id: str) -> int:
        ordinal = self._ids.give(pack(resource_id))
        if ordinal == len(self._parents):
            self._parents.append(_NONE)
            self._of_suffix[resource_id[-1]].add(ordinal)
            self._versions.append(0)
        return ordinal

    async def publish(self, change: int) -> View:
        """The view with all that was staged."""
        touched = [*self._put, *self._deleted]
        self._live = (self._live | BitMap(self._put)) - BitMap(self._deleted)
        await _in_pieces(self._move_sets())
        await self._move_orders(touched)
        await self._move_rights(touched)
        self._joins.clear()
        self._leaves.clear()
        self._put = {}
        self._deleted = []
        self._moved = {}
        return View(
            change,
            dict(self.types),
            self._live,
            self._sets,
            self._values,
            self._orders,
            self._rights,
            self._ids,
            self._versions,
            self._moves.cut(),
            self._incomplete,
        )

    def _scores_of(self, ordinal: int) -> Scores | None:
        if ordinal not in self._live:
            return None
        places = {name: order.place_of(ordinal) for name, order in self._orders.items() if name != BY_ID}
        return {name: score for name, (score, _) in places.items() if score != MISSING}

    # Sets

    def _move_sets(self) -> Iterator[None]:
        sets, named = dict(self._sets), dict(self._values)
        appeared: defaultdict[str, set[str]] = defaultdict(set)
        vanished: defaultdict[str, set[str]] = defaultdict(set)
        for count, key in enumerate({**self._joins, **self._leaves}, 1):
            old = sets.get(key)
            new = BitMap() if old is None else old.copy()
            new.update(self._joins.get(key, ()))
            new.difference_update(BitMap(self._leaves.get(key, ())))
            if new:
                sets[key] = new
            else:
                sets.pop(key, None)
            if bool(new) is not (old is not None):
                (appeared if new else vanished)[key.partition(":")[0]].add(key)
            if count % _PIECE == 0:
                yield
        for name in appeared.keys() | vanished.keys():
            if not is_id(name):
                named[name] = (named.get(name, frozenset()) | appeared[name]) - vanished[name]
        self._sets, self._values = sets, named

    # Orders

    async def _move_orders(self, touched: Sequence[int]) -> None:
        names = {BY_ID, *(name for each in self.types.values() for name in each.sort_names)}
        orders = {name: order for name, order in self._orders.items() if name in names}
        new = [name for name in names if name not in orders]
        for name in new:
            everything = self._orders.get(BY_ID, empty_order())
            orders[name] = everything if name == BY_ID else everything.without_values()
        if touched:
            ordinals = np.fromiter(self._put, np.uint32, len(self._put))
            packed = np.fromiter((self._ids.packed[each] for each in self._put), np.int64, len(self._put))
            gone = np.array(touched, np.uint32)
            for name, order in orders.items():
                values = (0.0 if name == BY_ID else each.get(name, MISSING) for each in self._put.values())
                scores = np.fromiter(values, np.float64, len(self._put))
                orders[name] = await asyncio.to_thread(
                    order.replace, gone, scores, packed, ordinals, len(self._ids)
                )
        self._orders = orders

    # Rights

    async def _move_rights(self, touched: Sequence[int]) -> None:
        if not (self._is_ruled_anew or self._ruled_anew or (self._rules and touched)):
            return
        affected = BitMap(self._live) if self._is_ruled_anew and self._rules else BitMap(touched)
        for subject in self._ruled_anew:
            affected |= self._members_of(subject)
        if self._rules or self._paths:
            affected |= await self._descendants(affected)
        ruled_sets = [subject for subject in self._rules if not is_id(subject)]
        groups = self._groups
        moves: dict[int, Path] = {}
        for count, ordinal in enumerate(affected, 1):
            path = self.path_of(ordinal, self._rules, ruled_sets) if ordinal in self._live else ()
            if path != self._paths.get(ordinal, ()):
                moves[ordinal] = path
            if count % _PIECE == 0:
                await asyncio.sleep(0)
        if moves:
            groups = await self._move_groups(moves)
        if moves or self._is_ruled_anew or self._ruled_anew:
            self._groups = groups
            self._rights = Rights(self._rules, groups, self.dimensions, default_allow=self._default_allow)
        self._ruled_anew.clear()
        self._is_ruled_anew = False

    @property
    def rules(self) -> Mapping[str, tuple[Rule, ...]]:
        """By subject, sorted by priority."""
        return self._rules

    async def find_affected(self, subjects: Iterable[str]) -> BitMap:
        """The resources that rules of these subjects concern."""
        affected = BitMap()
        for subject in subjects:
            affected |= self._members_of(subject)
        return (affected | await self._descendants(affected)) & self._live

    async def _move_groups(self, moves: Mapping[int, Path]) -> dict[Path, BitMap]:
        groups = dict(self._groups)
        leaves: defaultdict[Path, list[int]] = defaultdict(list)
        joins: defaultdict[Path, list[int]] = defaultdict(list)
        for ordinal, path in moves.items():
            if (old := self._paths.pop(ordinal, ())) != ():
                leaves[old].append(ordinal)
            if path:
                joins[path].append(ordinal)
                self._paths[ordinal] = path
        for count, path in enumerate({**leaves, **joins}, 1):
            members = (groups.get(path, BitMap()) | BitMap(joins.get(path, ()))) - BitMap(
                leaves.get(path, ())
            )
            if members:
                groups[path] = members
            else:
                groups.pop(path, None)
            if count % _PIECE == 0:
                await asyncio.sleep(0)
        return groups

    def _members_of(self, subject: str) -> BitMap:
        if not is_id(subject):
            return self._sets.get(subject, BitMap())
        ordinal = self._ids.find(pack(subject))
        return BitMap() if ordinal is None else BitMap([ordinal])

    async def _descendants(self, of: BitMap) -> BitMap:
        """The children of these that are under the rules of their parents, their children, and so on.

        It follows the same parents as `path_of`, so that a rule reaches each resource whose path has its subject.
        """
        inheriting = BitMap()
        for each in self.types.values():
            if each.inherits_holdbacks:
                inheriting |= self._of_suffix[each.suffix]
        found, level = BitMap(), of
        for _ in range(MAX_DEPTH):
            below = BitMap()
            for count, ordinal in enumerate(level, 1):
                if (children := self._children.get(ordinal)) is not None:
                    below |= children
                if count % _PIECE == 0:
                    await asyncio.sleep(0)
            level = (below & inheriting) - found
            if not level:
                break
            found |= level
        return found

    def path_of(self, ordinal: int, rules: Mapping[str, tuple[Rule, ...]], ruled_sets: Sequence[str]) -> Path:
        """The subjects that have rules for a resource. `ruled_sets`: those of `rules` that are sets."""
        chain = [ordinal]
        while self._inherits(chain[-1]) and (parent := self._parents[chain[-1]]) != _NONE:
            chain.append(parent)
            if len(chain) > MAX_DEPTH + 1:
                raise RuntimeError(f"the parents of {unpack(self._ids.packed[ordinal])} form a circle")
        own: list[tuple[str, ...]] = []
        for each in chain:
            name = unpack(self._ids.packed[each])
            if name in rules:
                own.append((name,))
        for each in chain:
            stage = tuple(key for key in ruled_sets if each in self._sets.get(key, ()))
            if stage:
                own.append(tuple(sorted(stage)))
        return tuple(own)

    def _inherits(self, ordinal: int) -> bool:
        return self.types[unpack(self._ids.packed[ordinal])[-1]].inherits_holdbacks


async def _in_pieces(pieces: Iterator[None]) -> None:
    for _ in pieces:
        await asyncio.sleep(0)
