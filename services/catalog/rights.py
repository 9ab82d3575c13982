"""Rights, compiled: for a viewer and an instant, the set of resources that are denied. Decided from rules alone.

A resource is under the rules of several subjects: its own, its parents', then those of its sets, then those of its
parents' sets. This sequence is its *path*; resources with the same path are one group. Between two boundaries (the
instants at which some window begins or ends) no decision changes, so everything is compiled for one interval. Groups
whose rules come to the same in an interval share a *signature*.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from threading import Lock

from pyroaring import BitMap

from services.catalog.countries import COUNTRIES
from services.catalog.rule import Dimensions, Rule, Viewer

Path = tuple[tuple[str, ...], ...]
"""Stages of subjects. The rules within a stage are merged by priority, and then by subject."""
Clause = tuple[frozenset[str], frozenset[str], frozenset[str], bool]
"""A rule that is active: countries, applications, platforms, and whether it allows."""
Content = tuple[Clause, ...]

OTHER = ""
"""Stands for each code that no rule mentions."""
_MOST_INTERVALS = 4
_MOST_DENIED = 4_096
_PIECE = 500


@dataclass(frozen=True, slots=True)
class _Class:
    """Viewers that no rule distinguishes. None: a code that is not registered, so any of them."""

    country: str | None
    application: str | None
    platform: str | None


@dataclass(slots=True)
class _Cache:
    """Of finds on the event loop, and of those in threads."""

    signatures: dict[int, Mapping[Content, BitMap]] = field(default_factory=dict)
    denied: dict[tuple[int, _Class], BitMap] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


class Rights:
    """The rights of one view; they never change."""

    def __init__(
        self,
        rules: Mapping[str, tuple[Rule, ...]],
        groups: Mapping[Path, BitMap],
        dimensions: Dimensions,
        *,
        default_allow: bool,
    ) -> None:
        """`rules`: by subject, sorted by priority. `groups`: the resources under each path, without the empty path."""
        self.rules = rules
        self.groups = groups
        self.dimensions = dimensions
        self.default_allow = default_allow
        every = [rule for of_subject in rules.values() for rule in of_subject]
        self._boundaries = sorted(
            {time for rule in every for time in (rule.from_us, rule.to_us) if time is not None}
        )
        self._countries = frozenset().union(*(rule.countries for rule in every))
        self._applications = frozenset().union(*(rule.applications for rule in every))
        self._platforms = frozenset().union(*(rule.platforms for rule in every))
        self._ruled = BitMap.union(*groups.values()) if groups else BitMap()
        self._cache = _Cache()

    def keep_visible(self, found: BitMap, viewer: Viewer, from_us: int, until_us: int) -> BitMap:
        """Those of `found` that the viewer may see at every instant in [from_us, until_us]."""
        visible = found if self.default_allow else found & self._ruled
        for interval in self._intervals(from_us, until_us):
            if denied := self._denied(interval, viewer):
                visible = visible - denied
        return visible

    def is_visible(self, ordinal: int, viewer: Viewer, from_us: int, until_us: int) -> bool:
        """The same for one resource."""
        if not self.default_allow and ordinal not in self._ruled:
            return False
        return not any(
            ordinal in self._denied(interval, viewer) for interval in self._intervals(from_us, until_us)
        )

    def is_same_time(self, first: tuple[int, int], second: tuple[int, int]) -> bool:
        """Whether no decision can differ between two spans of instants."""
        return self._intervals(*first) == self._intervals(*second)

    @property
    def boundaries(self) -> Sequence[int]:
        """The instants at which some window begins or ends, in order."""
        return self._boundaries

    @property
    def mentioned(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """The countries, applications and platforms that some rule names."""
        return self._countries, self._applications, self._platforms

    def visible_at(self, found: BitMap, codes: tuple[str, str, str], time_us: int) -> BitMap:
        """Those of `found` that viewers with these codes see at an instant. OTHER: a code that no rule names."""
        visible = found if self.default_allow else found & self._ruled
        country, application, platform = codes
        interval = bisect_right(self._boundaries, time_us)
        return visible - self._find_denied(interval, _Class(country, application, platform))

    def path_of(self, ordinal: int) -> Path:
        """The subjects whose rules a resource is under; it is looked for in every group."""
        return next((path for path, members in self.groups.items() if ordinal in members), ())

    def is_allowed_at(self, rules: Sequence[Rule], viewer: Viewer, time_us: int) -> bool:
        """What rules, in the order in which they are tried, come to for a viewer at an instant."""
        return self._find_case(rules, viewer, time_us)[0]

    def find_deciding(self, rules: Sequence[Rule], viewer: Viewer, window: tuple[int, int]) -> int | None:
        """Which of the rules decides; None: the default does.

        Where several instants can be now, or codes are not registered: the first that denies, for any of them.
        """
        times = [window[0], *(time for time in self._boundaries if window[0] < time <= window[1])]
        cases = [self._find_case(rules, viewer, time) for time in times]
        return min(cases, key=lambda case: case[0])[1]

    def _find_case(self, rules: Sequence[Rule], viewer: Viewer, time_us: int) -> tuple[bool, int | None]:
        """Whether it is allowed, and which rule says so; one that denies, if some code in question is denied."""
        active = [(number, rule) for number, rule in enumerate(rules) if rule.is_active(time_us)]
        viewers = self._class_of(viewer)
        cases: list[tuple[bool, int | None]] = []
        for codes in product(
            _values(viewers.country, (rule.countries for _, rule in active)),
            _values(viewers.application, (rule.applications for _, rule in active)),
            _values(viewers.platform, (rule.platforms for _, rule in active)),
        ):
            number, rule = next(((each for each in active if each[1].is_for(*codes))), (None, None))
            cases.append((self.default_allow if rule is None else rule.allow, number))
        return min(cases, key=lambda case: case[0])

    def next_boundary_us(self, time_us: int) -> int | None:
        """The first instant after this one at which a decision may change."""
        index = bisect_right(self._boundaries, time_us)
        return self._boundaries[index] if index < len(self._boundaries) else None

    def prepare(self, time_us: int) -> Iterator[None]:
        """Compile what holds at an instant, in pieces; nothing if it is compiled."""
        interval = bisect_right(self._boundaries, time_us)
        if interval in self._cache.signatures:
            return
        signatures: dict[Content, BitMap] = {}
        for count, (path, members) in enumerate(self.groups.items(), 1):
            content = self._content(path, interval)
            known = signatures.get(content)
            if known is None:
                signatures[content] = members.copy()
            else:
                known |= members
            if count % _PIECE == 0:
                yield
        with self._cache.lock:
            while len(self._cache.signatures) >= _MOST_INTERVALS:
                oldest = next(iter(self._cache.signatures))
                del self._cache.signatures[oldest]
            self._cache.signatures[interval] = signatures

    def _intervals(self, from_us: int, until_us: int) -> range:
        return range(bisect_right(self._boundaries, from_us), bisect_right(self._boundaries, until_us) + 1)

    def _denied(self, interval: int, viewer: Viewer) -> BitMap:
        key = interval, self._class_of(viewer)
        denied = self._cache.denied.get(key)
        if denied is None:
            if len(self._cache.denied) >= _MOST_DENIED:
                self._cache.denied.clear()
            denied = self._cache.denied[key] = self._find_denied(*key)
        return denied

    def _find_denied(self, interval: int, viewers: _Class) -> BitMap:
        while (signatures := self._cache.signatures.get(interval)) is None:
            for _ in self.prepare(self._instant_of(interval)):
                pass
        members = [
            members for content, members in signatures.items() if not self._is_allowed(content, viewers)
        ]
        return BitMap.union(*members) if members else BitMap()

    def _instant_of(self, interval: int) -> int:
        return self._boundaries[interval - 1] if interval else -(2**63)

    def _content(self, path: Path, interval: int) -> Content:
        """The clauses of a path, up to the first that matches every viewer."""
        time_us = self._instant_of(interval)
        clauses: list[Clause] = []
        for stage in path:
            for _, rule in merge(stage, self.rules):
                if rule.is_active(time_us):
                    clauses.append((rule.countries, rule.applications, rule.platforms, rule.allow))
                    if not (rule.countries or rule.applications or rule.platforms):
                        return tuple(clauses)
        return tuple(clauses)

    def _class_of(self, viewer: Viewer) -> _Class:
        return _Class(
            _reduce(viewer.country, self._countries, COUNTRIES),
            _reduce(viewer.application, self._applications, self.dimensions.applications),
            _reduce(viewer.platform, self._platforms, self.dimensions.platforms),
        )

    def _is_allowed(self, content: Content, viewers: _Class) -> bool:
        """Whether all viewers of the class are allowed."""
        countries = _values(viewers.country, (clause[0] for clause in content))
        applications = _values(viewers.application, (clause[1] for clause in content))
        platforms = _values(viewers.platform, (clause[2] for clause in content))
        return all(
            _decide(content, *each, default=self.default_allow)
            for each in product(countries, applications, platforms)
        )


def merge(stage: Sequence[str], rules: Mapping[str, tuple[Rule, ...]]) -> Sequence[tuple[str, Rule]]:
    """The rules of a stage in the order in which they are tried, each with its subject."""
    found = [(subject, rule) for subject in stage for rule in rules.get(subject, ())]
    if len(stage) > 1:
        found.sort(key=lambda each: (each[1].priority, each[0]))
    return found


def _reduce(code: str, mentioned: frozenset[str], known: frozenset[str]) -> str | None:
    if code not in known:
        return None
    return code if code in mentioned else OTHER


def _values(code: str | None, mentioned: Iterator[frozenset[str]]) -> set[str]:
    """The codes to decide for: of an unknown code each that makes a difference, and one that no rule mentions."""
    return {code} if code is not None else {OTHER}.union(*mentioned)


def _decide(content: Content, country: str, application: str, platform: str, *, default: bool) -> bool:
    for countries, applications, platforms, allow in content:
        if (
            (not countries or country in countries)
            and (not applications or application in applications)
            and (not platforms or platform in platforms)
        ):
            return allow
    return default
