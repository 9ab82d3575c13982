"""Why a resource is missing, and what rules would do, through the api."""

import pytest

from tally.catalog.v1 import rights_pb2 as pb
from tally.client import InvalidRequest, NotEnabled, NotFound
from tests.support.catalog import CA, US, at, find_ids, prepare, rule, video
from tests.support.stack import Stack


async def test_a_missing_resource_is_explained_by_its_rules_in_order(alone: Stack) -> None:
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series"}')
    change = (await catalog.put("1v", video(1, container="50c", type="clips", genres=[1]))).version
    assert await find_ids(client, min_change=change) == ["50c", "1v"]
    end = at(4_000_000_000_000_000)
    await catalog.put_rules("1v", [rule(allow=True, countries=["CA"], reason="licensed")])
    await catalog.put_rules(
        "50c", [rule(countries=["US"], to_time=end), rule(priority=2, countries=["US"], to_time=end)]
    )
    await catalog.put_rules("t:clips", [rule(allow=True)])
    request = pb.ExplainRequest(
        id="1v",
        viewer=US,
        filters=[pb.ExplainedFilter(any=["genre:2", "genre:3"]), pb.ExplainedFilter(any=["t:clips"])],
        sort="views",
    )
    found = await catalog.explain(request)
    assert [(each.subject, each.through, each.state) for each in found.rules] == [
        ("1v", "itself", pb.RULE_STATE_NO_MATCH),
        ("50c", "a parent", pb.RULE_STATE_DECIDES),
        ("50c", "a parent", pb.RULE_STATE_SHADOWED),
        ("t:clips", "its set", pb.RULE_STATE_LATER),
    ]
    assert (found.visible, found.by_default) == (False, False)
    assert [(each.visible, each.from_time.seconds, each.to_time.seconds) for each in found.windows] == [
        (False, 0, 4_000_000_000),
        (True, 4_000_000_000, 0),
    ]
    assert list(found.left_out) == [
        "filters[0] leaves it out: it is in none of genre:2, genre:3",
        "it has no value for the sort views, so it comes after all others",
    ]
    assert (await catalog.explain(pb.ExplainRequest(id="1v", viewer=CA))).rules[0].rule.reason == "licensed"
    with pytest.raises(NotFound):
        await catalog.explain(pb.ExplainRequest(id="9v", viewer=US))
    with pytest.raises(InvalidRequest, match="typo"):
        await catalog.explain(
            pb.ExplainRequest(id="1v", viewer=US, filters=[pb.ExplainedFilter(any=["typo:x"])])
        )
    later = pb.Viewer(country="us", application="48", platform="tv", at=end)
    with pytest.raises(NotEnabled):
        await catalog.explain(pb.ExplainRequest(id="1v", viewer=later))


async def test_rules_are_tried_and_nothing_is_stored(alone: Stack) -> None:
    client, catalog = alone.client, await prepare(alone.client)
    await catalog.put("50c", b'{"title":"Series"}')
    for number in (1, 2):
        change = (await catalog.put(f"{number}v", video(number, container="50c"))).version
    await catalog.put_rules("2v", [rule(countries=["US"])])
    shown = await find_ids(client, min_change=change)
    tried = [
        pb.SubjectRules(subject="2v"),
        pb.SubjectRules(
            subject="50c",
            rules=[
                rule(countries=["US", "CA"], platforms=["tv"], from_time={"seconds": 4_000_000_000}),
                rule(priority=2, countries=["CA"], platforms=["tv"], from_time={"seconds": 4_100_000_000}),
                rule(priority=3, to_time={"seconds": 1_000_000_000}),
            ],
        ),
    ]
    found = await catalog.try_rules(tried)
    assert found.affected_count == 3
    differences = [
        (
            [(list(each.countries), list(each.platforms)) for each in difference.viewers],
            (difference.from_time.seconds, difference.to_time.seconds),
            (list(difference.appear_ids), list(difference.disappear_ids)),
        )
        for difference in found.differences
    ]
    soon, later = (0, 4_000_000_000), (4_000_000_000, 0)
    assert sorted(differences, key=str) == sorted(
        [
            ([(["US"], [])], soon, (["2v"], [])),
            ([(["US"], ["*"])], later, (["2v"], [])),
            ([(["CA"], ["tv"])], later, ([], ["1v", "2v", "50c"])),
            ([(["US"], ["tv"])], later, ([], ["1v", "50c"])),
        ],
        key=str,
    )
    assert [(each.subject, each.priority, each.state) for each in found.useless] == [
        ("50c", 2, pb.RULE_STATE_SHADOWED),
        ("50c", 3, pb.RULE_STATE_EXPIRED),
    ]
    assert await find_ids(client) == shown
    assert (await catalog.list_rules("50c")).subjects == []
    with pytest.raises(InvalidRequest) as caught:
        await catalog.try_rules([pb.SubjectRules(subject="typo:x", rules=[rule(countries=["UK"])])])
    assert [each.field for each in caught.value.violations] == [
        "subjects[0].subject",
        "subjects[0].rules[0].countries",
    ]
