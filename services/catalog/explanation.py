"""Why a viewer may or may not see a resource: its rules in order, their later effect, and which never decide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product

from services.catalog.finding import Lists, Window, match
from services.catalog.ids import is_id, unpack
from services.catalog.order import BY_ID, MISSING
from services.catalog.query import Query
from services.catalog.rights import OTHER, merge
from services.catalog.rule import Rule, Viewer
from services.catalog.view import View

MAX_WINDOWS = 50
_MAX_CELLS = 100_000
_MAX_STEPS = 1_000_000


class Budget:
    """How many rules one call may still compare with others: it must end, however many rules there are."""

    def __init__(self, steps: int = _MAX_STEPS) -> None:
        self.left = steps

    def take(self, steps: int) -> bool:
        """Whether there are so many left; then they are used."""
        if steps > self.left:
            return False
        self.left -= steps
        return True


class State(Enum):
    """How a rule stands to the viewer and to now."""

    DECIDES = "decides"
    LATER = "matches, and an earlier one decides"
    NO_MATCH = "does not match the viewer"
    UPCOMING = "its time has not come"
    EXPIRED = "its time is over"
    SHADOWED = "never decides: earlier ones always do"


@dataclass(frozen=True, slots=True)
class Step:
    """A rule of a resource, and how it stands."""

    subject: str
    through: str
    rule: Rule
    state: State


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it."""

    is_visible: bool
    steps: Sequence[Step]
    windows: Sequence[tuple[int | None, int | None, bool]]
    """[from, to) and whether it is visible; None: from now, or without end"""
    left_out: Sequence[str]

    @property
    def is_by_default(self) -> bool:
        """Whether no rule decides."""
        return all(step.state is not State.DECIDES for step in self.steps)


def explain(
    view: View, ordinal: int, query: Query, window: Window, lists: Lists | None = None
) -> Explanation:
    """Everything about a resource that is there. `lists`: those that the query names."""
    viewer = query.viewer
    rights = view.rights
    path = rights.path_of(ordinal)
    ruled = [
        (subject, _through(view, ordinal, subject), rule)
        for stage in path
        for subject, rule in merge(stage, rights.rules)
    ]
    rules = [rule for _, _, rule in ruled]
    deciding = rights.find_deciding(rules, viewer, window)
    budget = Budget()
    steps = [
        Step(subject, through, rule, _state_of(rules, number, deciding, viewer, window, budget))
        for number, (subject, through, rule) in enumerate(ruled)
    ]
    return Explanation(
        rights.is_visible(ordinal, viewer, *window),
        steps,
        list(_windows(view, ordinal, viewer, window, rules)),
        list(_left_out(view, ordinal, query, lists or {})),
    )


def find_useless(
    rules: Sequence[Rule], now_us: int, budget: Budget | None = None
) -> Iterator[tuple[Rule, State]]:
    """Those of a subject's rules, in their order, that never decide from now on."""
    budget = budget or Budget()
    for number, rule in enumerate(rules):
        if rule.to_us is not None and rule.to_us <= now_us:
            yield rule, State.EXPIRED
        elif is_shadowed(rules, number, budget):
            yield rule, State.SHADOWED


def is_shadowed(rules: Sequence[Rule], number: int, budget: Budget) -> bool:
    """Whether earlier rules decide every case that this one matches, for any viewer at any time.

    Where there are too many cases to look at, only a single earlier rule that covers it is found, and nothing when the
    budget is used up.
    """
    if not budget.take(number):
        return False
    rule, earlier = rules[number], rules[:number]
    if any(_covers(other, rule) for other in earlier):
        return True
    codes = sum(len(other.countries) + len(other.applications) + len(other.platforms) for other in earlier)
    if not budget.take(codes):
        return False
    times = sorted({time for other in earlier for time in (other.from_us, other.to_us) if time is not None})
    starts = [rule.from_us if rule.from_us is not None else -(2**63)]
    starts += [time for time in times if time > starts[0] and (rule.to_us is None or time < rule.to_us)]
    dimensions = [
        sorted(own) if own else [OTHER, *sorted(frozenset().union(*others))]
        for own, others in (
            (rule.countries, [other.countries for other in earlier]),
            (rule.applications, [other.applications for other in earlier]),
            (rule.platforms, [other.platforms for other in earlier]),
        )
    ]
    cells = len(starts)
    for dimension in dimensions:
        cells *= len(dimension)
    if cells * len(earlier) > _MAX_CELLS or not budget.take(cells * len(earlier)):
        return False
    return all(
        any(other.is_active(time) and other.is_for(*codes) for other in earlier)
        for time in starts
        for codes in product(*dimensions)
    )


def _covers(other: Rule, rule: Rule) -> bool:
    return (
        all(
            not wide or (narrow and narrow <= wide)
            for wide, narrow in (
                (other.countries, rule.countries),
                (other.applications, rule.applications),
                (other.platforms, rule.platforms),
            )
        )
        and (other.from_us is None or (rule.from_us is not None and other.from_us <= rule.from_us))
        and (other.to_us is None or (rule.to_us is not None and rule.to_us <= other.to_us))
    )


def _state_of(
    rules: Sequence[Rule],
    number: int,
    deciding: int | None,
    viewer: Viewer,
    window: Window,
    budget: Budget,
) -> State:
    rule = rules[number]
    if number == deciding:
        return State.DECIDES
    if rule.to_us is not None and rule.to_us <= window[0]:
        return State.EXPIRED
    if is_shadowed(rules, number, budget):
        return State.SHADOWED
    if rule.from_us is not None and rule.from_us > window[1]:
        return State.UPCOMING
    if (
        deciding is not None
        and number > deciding
        and rule.is_for(viewer.country, viewer.application, viewer.platform)
    ):
        return State.LATER
    return State.NO_MATCH


def _through(view: View, ordinal: int, subject: str) -> str:
    if is_id(subject):
        return "itself" if subject == unpack(view.ids.packed[ordinal]) else "a parent"
    return "its set" if ordinal in view.sets.get(subject, ()) else "a set of a parent"


def _windows(
    view: View, ordinal: int, viewer: Viewer, window: Window, rules: Sequence[Rule]
) -> Iterator[tuple[int | None, int | None, bool]]:
    """What is seen now, and from each boundary on at which that changes."""
    times = sorted(
        {
            time
            for rule in rules
            for time in (rule.from_us, rule.to_us)
            if time is not None and time > window[1]
        }
    )
    start: int | None = None
    seen = view.rights.is_visible(ordinal, viewer, *window)
    count = 0
    for time in times:
        will_see = view.rights.is_allowed_at(rules, viewer, time)
        if will_see is not seen:
            yield start, time, seen
            start, seen, count = time, will_see, count + 1
            if count == MAX_WINDOWS - 1:
                break
    yield start, None, seen


def _left_out(view: View, ordinal: int, query: Query, lists: Lists) -> Iterator[str]:
    sort = query.sort
    for number, each in enumerate(query.filters):
        if ordinal not in match(view, [each], lists):
            what = "takes it away: it is in" if each.exclude else "leaves it out: it is in none of"
            yield f"filters[{number}] {what} {', '.join(each.keys)}"
    if sort not in ("", BY_ID) and view.orders[sort].place_of(ordinal)[0] == MISSING:
        yield f"it has no value for the sort {sort}, so it comes after all others"
