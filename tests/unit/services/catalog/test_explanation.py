"""Explanations and trials against brute force, on random worlds."""

import asyncio
from itertools import product
from random import Random

from hypothesis import given, settings, strategies
from pyroaring import BitMap

from services.catalog.explanation import Budget, Explanation, State, explain, find_useless, is_shadowed
from services.catalog.explanation_wire import write_trial
from services.catalog.ids import unpack
from services.catalog.query import Filter, Query
from services.catalog.rights import OTHER
from services.catalog.rule import Rule, Viewer
from services.catalog.trial import Trial, Viewers, try_rules
from services.catalog.view import View
from tests.unit.services.catalog.world import IDS, KEYS, LATEST, VIEWERS, World

KNOWN = [each for each in VIEWERS if each.country != "XX" and "new" not in (each.application, each.platform)]


def write_some(random: Random) -> World:
    world = World(random)
    for _ in range(random.randrange(5, 40)):
        world.write()
    return world


@given(seed=strategies.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_an_explanation_says_what_a_find_does_now_and_later(seed: int) -> None:
    """004-32: each rule in order, which one decided, and the windows to come."""
    random = Random(seed)
    world = write_some(random)
    view = world.publish()
    for resource_id in world.oracle.resources:
        viewer, window = random.choice(VIEWERS), world.make_window()
        ordinal = view.find(resource_id)
        assert ordinal is not None
        found = explain(view, ordinal, Query(viewer, (), "id"), window)
        assert found.is_visible is world.oracle.may_see(resource_id, viewer, *window)
        check_decision(world, found, viewer)
        check_windows(world, found, resource_id, viewer, window[1])
        check_shadowed(found)


def check_decision(world: World, found: Explanation, viewer: Viewer) -> None:
    deciding = [step for step in found.steps if step.state is State.DECIDES]
    assert len(deciding) <= 1
    decision = deciding[0].rule.allow if deciding else world.oracle.default_allow
    assert decision is found.is_visible, (found, viewer)


def check_windows(world: World, found: Explanation, resource_id: str, viewer: Viewer, now_us: int) -> None:
    starts = [start for start, _, _ in found.windows]
    assert starts[0] is None
    assert [end for _, end, _ in found.windows[:-1]] == starts[1:]
    for start, end, is_visible in found.windows[1:]:
        assert start is not None
        for time in (start, (end or LATEST * 3) - 1):
            assert time > now_us
            assert world.oracle.may_see(resource_id, viewer, time, time) is is_visible


def check_shadowed(found: Explanation) -> None:
    """Nobody ever meets a rule that is told to be shadowed."""
    rules = [step.rule for step in found.steps]
    for number, rule in enumerate(rules):
        meets = any(
            rule.is_for(*codes)
            and rule.is_active(time)
            and not any(other.is_for(*codes) and other.is_active(time) for other in rules[:number])
            for codes in product(("US", "CA", "FR"), ("48", "49", "x"), ("mobile", "tv", "x"))
            for time in range(-1, 3 * LATEST)
        )
        assert is_shadowed(rules, number, Budget()) is not meets


@given(seed=strategies.integers(0, 2**32))
@settings(max_examples=12, deadline=None)
def test_a_trial_says_what_appears_and_disappears_for_whom_and_when(seed: int) -> None:
    random = Random(seed)
    world = write_some(random)
    view = world.publish()
    subjects = {
        subject: [world.make_rule(priority) for priority in range(random.randrange(3))]
        for subject in random.sample(IDS + KEYS, 2)
    }
    now = world.make_window()[0]
    trial = asyncio.run(try_rules(world.index, subjects, default_allow=world.oracle.default_allow))
    differences = asyncio.run(trial.compare(now))
    before = {
        (viewer, time): see(world, viewer, time)
        for viewer in random.sample(KNOWN, 4)
        for time in range(now, 2 * LATEST)
    }
    world.oracle.rules |= subjects
    for (viewer, time), seen in before.items():
        those = [
            each
            for each in differences
            if (each.from_us is None or each.from_us <= time) and (each.to_us is None or time < each.to_us)
            and any(is_one_of(viewer, trial, some) for some in each.viewers)
        ]  # fmt: skip
        assert len(those) <= 1
        appear, disappear = (those[0].appear, those[0].disappear) if those else (BitMap(), BitMap())
        will_see = see(world, viewer, time)
        assert name(view, appear) == will_see - seen
        assert name(view, disappear) == seen - will_see


def see(world: World, viewer: Viewer, time: int) -> set[str]:
    return {each for each in world.oracle.resources if world.oracle.may_see(each, viewer, time, time)}


def name(view: View, ordinals: BitMap) -> set[str]:
    return {unpack(view.ids.packed[each]) for each in ordinals}


def is_one_of(viewer: Viewer, trial: Trial, some: Viewers) -> bool:
    """Whether a viewer is in a product of codes."""
    codes = (viewer.country, viewer.application, viewer.platform)
    named = [one | other for one, other in zip(trial.before.mentioned, trial.after.mentioned, strict=True)]
    return all(
        not chosen or (code if code in known else OTHER) in chosen
        for code, known, chosen in zip(
            codes, named, (some.countries, some.applications, some.platforms), strict=True
        )
    )


def test_rules_that_are_over_or_covered_by_several_earlier_ones_are_useless() -> None:
    """004-32."""
    over = Rule(1, False, to_us=5)
    us, rest = Rule(2, True, frozenset({"US"})), Rule(3, False, frozenset({"US"}), from_us=10)
    early, late = Rule(4, False, frozenset({"CA"}), to_us=50), Rule(5, True, frozenset({"CA"}), from_us=50)
    both = Rule(6, False, frozenset({"CA", "US"}))
    rules = [over, us, rest, early, late, both, Rule(7, True)]
    assert [(rule.priority, state) for rule, state in find_useless(rules, 7)] == [
        (1, State.EXPIRED),
        (3, State.SHADOWED),
        (6, State.SHADOWED),
    ]


def test_all_rules_of_a_call_share_one_budget_of_comparisons() -> None:
    """Of a thousand subjects with a thousand rules each, what is useless is looked for only until it is used up."""
    broad = Rule(1, True)
    rules = [broad, *(Rule(priority, False, frozenset({"US"})) for priority in range(2, 101))]
    budget = Budget(1_000)
    found = [len(list(find_useless(rules, 0, budget))) for _ in range(3)]
    assert found == [44, 4, 0]  # 1 + 2 + … + 44 = 990, and 10 are left
    subjects = {f"{number}v": rules for number in range(1, 1_001)}
    world = World(Random(1))
    view = world.publish()
    trial = Trial(BitMap(), view.rights, view.rights)
    response = write_trial(view, trial, [], subjects, 0)
    assert 1_000 < len(response.useless) < 40_000  # of 99,000


def test_what_leaves_a_resource_out_of_a_find_is_named() -> None:
    world = World(Random(1))
    world.put("1v")
    world.put("2w")
    view = world.publish()
    ordinal = view.find("2w")
    assert ordinal is not None
    filters = (Filter(("g:1", "g:2")), Filter(tuple(world.oracle.resources["2w"].keys), exclude=True))
    found = explain(view, ordinal, Query(VIEWERS[0], filters, "views"), (0, 0))
    assert found.left_out[0] == "filters[0] leaves it out: it is in none of g:1, g:2"
    assert found.left_out[1].startswith("filters[1] takes it away")
    assert "no value for the sort views" in found.left_out[2]
