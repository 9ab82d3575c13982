"""What a replica holds in memory, where rules come after types have changed."""

from services.catalog.index import Index, Row
from services.catalog.resource_type import ResourceType
from services.catalog.rule import Dimensions, Rule
from services.catalog.view import View


def open_index(children: str) -> Index:
    """An index whose videos are the children of containers by some name."""
    index = Index(default_allow=True)
    index.stage_types(
        [
            ResourceType("c", "container"),
            ResourceType("v", "video", parent="/in", children=children),
            ResourceType("w", "free", parent="/in", children="loose", inherits_holdbacks=False),
        ]
    )
    index.stage_dimensions(Dimensions())
    return index


def ruled(view: View) -> list[str]:
    """The resources that rules hold for."""
    found = (view.find(each) for each in ("1c", "1v", "2v", "1w"))
    return [
        each
        for each, ordinal in zip(("1c", "1v", "2v", "1w"), found, strict=True)
        if ordinal is not None and view.rights.path_of(ordinal)
    ]


async def test_a_rule_of_a_parent_reaches_children_that_are_in_a_set_of_a_former_name() -> None:
    """Published before the rules are staged, as a replica does that reads a large record."""
    index = open_index("clips")
    index.stage_resource(Row("1c", None, (), {}, 1))
    index.stage_resource(Row("1v", "1c", ("1c:videos",), {}, 1))
    index.stage_resource(Row("2v", "1c", ("1c:clips",), {}, 1))
    index.stage_resource(Row("1w", "1c", ("1c:loose",), {}, 1))
    await index.publish(1)
    index.stage_rules("1c", [Rule(1, False)])
    assert ruled(await index.publish(2)) == ["1c", "1v", "2v"]
    assert len(await index.find_affected(["1c"])) == 3


async def test_a_rule_of_a_parent_leaves_what_is_moved_or_deleted() -> None:
    index = open_index("videos")
    for each in ("1c", "2c"):
        index.stage_resource(Row(each, None, (), {}, 1))
    for each in ("1v", "2v"):
        index.stage_resource(Row(each, "1c", ("1c:videos",), {}, 1))
    index.stage_rules("1c", [Rule(1, False)])
    assert ruled(await index.publish(1)) == ["1c", "1v", "2v"]
    index.stage_resource(Row("1v", "2c", ("2c:videos",), {}, 2), ["1c:videos"])
    index.stage_deleted("2v", ["1c:videos"])
    assert ruled(await index.publish(2)) == ["1c"]
    assert len(await index.find_affected(["1c"])) == 1
    assert len(await index.find_affected(["2c"])) == 2
