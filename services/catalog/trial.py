"""The effect that rules would have: for which viewers, resources and times. Nothing is stored."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from pyroaring import BitMap

from services.catalog.ids import is_id
from services.catalog.index import Index
from services.catalog.rights import OTHER, Path, Rights
from services.catalog.rule import Rule
from tally.contract.errors import InvalidRequest, Violation

MAX_CELLS = 200_000
"""Combinations of viewers and intervals that a trial compares."""
_PIECE = 200

Codes = tuple[str, str, str]
"""Country, application and platform; OTHER is every code that no rule names."""


@dataclass(frozen=True, slots=True)
class Viewers:
    """Each combination of these codes."""

    countries: tuple[str, ...]
    applications: tuple[str, ...]
    platforms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What some viewers would see otherwise, in [from_us, to_us)."""

    viewers: Sequence[Viewers]
    from_us: int | None
    """None: from now"""
    to_us: int | None
    """None: without end"""
    appear: BitMap
    disappear: BitMap


@dataclass(frozen=True, slots=True)
class Trial:
    """The rights of the resources that rules concern, as they are and as they would be."""

    affected: BitMap
    before: Rights
    after: Rights

    async def compare(self, now_us: int) -> list[Difference]:
        """The differences from now on, in the order of time. Raises InvalidRequest when there is too much."""
        boundaries = sorted(
            time for time in {*self.before.boundaries, *self.after.boundaries} if time > now_us
        )
        countries, applications, platforms = dimensions = [
            (OTHER, *sorted(before | after))
            for before, after in zip(self.before.mentioned, self.after.mentioned, strict=True)
        ]
        viewers = list(product(countries, applications, platforms))
        if len(viewers) * (len(boundaries) + 1) > MAX_CELLS:
            raise InvalidRequest(
                [
                    Violation(
                        "subjects", "have too many codes and times to be compared at once; try fewer subjects"
                    )
                ]
            )
        found: list[Difference] = []
        for start, end in zip([None, *boundaries], [*boundaries, None], strict=True):
            time_us = now_us if start is None else start
            groups: defaultdict[tuple[bytes, bytes], list[Codes]] = defaultdict(list)
            for count, codes in enumerate(viewers, 1):
                before = self.before.visible_at(self.affected, codes, time_us)
                after = self.after.visible_at(self.affected, codes, time_us)
                if before != after:
                    groups[(after - before).serialize(), (before - after).serialize()].append(codes)
                if count % _PIECE == 0:
                    await asyncio.sleep(0)
            for (appear, disappear), those in groups.items():
                difference = Difference(
                    list(_compress(those, dimensions)),
                    start,
                    end,
                    BitMap.deserialize(appear),
                    BitMap.deserialize(disappear),
                )
                if not _continue(found, difference):
                    found.append(difference)
        return found


async def try_rules(index: Index, subjects: Mapping[str, Sequence[Rule]], *, default_allow: bool) -> Trial:
    """What these rules would change if they replaced the current ones. The index must not change meanwhile."""
    affected = await index.find_affected(subjects)
    rules = {name: each for name, each in index.rules.items() if name not in subjects}
    rules |= {
        name: tuple(sorted(each, key=lambda rule: rule.priority)) for name, each in subjects.items() if each
    }
    before = await _make_rights(index, affected, index.rules, default_allow)
    after = await _make_rights(index, affected, rules, default_allow)
    return Trial(affected, before, after)


async def _make_rights(
    index: Index, affected: BitMap, rules: Mapping[str, tuple[Rule, ...]], default_allow: bool
) -> Rights:
    ruled_sets = [subject for subject in rules if not is_id(subject)]
    members: defaultdict[Path, list[int]] = defaultdict(list)
    for count, ordinal in enumerate(affected, 1):
        if path := index.path_of(ordinal, rules, ruled_sets):
            members[path].append(ordinal)
        if count % _PIECE == 0:
            await asyncio.sleep(0)
    named = {subject for path in members for stage in path for subject in stage}
    return Rights(
        {subject: each for subject, each in rules.items() if subject in named},
        {path: BitMap(each) for path, each in members.items()},
        index.dimensions,
        default_allow=default_allow,
    )


def _continue(found: list[Difference], new: Difference) -> bool:
    """Make a difference that goes on longer, if this is the same one in the next interval."""
    for number, old in enumerate(found):
        if (
            old.to_us == new.from_us
            and old.to_us is not None
            and (old.viewers == new.viewers and old.appear == new.appear and old.disappear == new.disappear)
        ):
            found[number] = Difference(old.viewers, old.from_us, new.to_us, old.appear, old.disappear)
            return True
    return False


def _compress(viewers: Iterable[Codes], dimensions: Sequence[Sequence[str]]) -> Iterator[Viewers]:
    """Few products that are these viewers; a dimension that is complete is left empty."""
    countries: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for country, application, platform in viewers:
        countries[application, platform].append(country)
    platforms: defaultdict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)
    for (application, platform), some in countries.items():
        platforms[tuple(some), application].append(platform)
    applications: defaultdict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (some_countries, application), some in platforms.items():
        applications[some_countries, tuple(some)].append(application)
    for (some_countries, some_platforms), some in applications.items():
        yield Viewers(
            *(
                () if len(codes) == len(dimension) else tuple(codes)
                for codes, dimension in zip((some_countries, some, some_platforms), dimensions, strict=True)
            )
        )
