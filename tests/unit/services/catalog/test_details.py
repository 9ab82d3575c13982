"""Details, ids, types and tokens: what is accepted, and what follows from it."""

import pytest
from hypothesis import given, strategies

from services.catalog.details import parse_details, resolve
from services.catalog.ids import is_id, pack, unpack
from services.catalog.page_token import read_token, write_token
from services.catalog.query import Cursor
from services.catalog.resource_type import ResourceType
from tally.contract.errors import InvalidRequest


@pytest.mark.parametrize(
    ("details", "problem"),
    [
        (b"[]", "object"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b"\xff", "UTF-8"),
        (b"{", "JSON"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "deep"),
        (b'{"a":"' + b"x" * 65_536 + b'"}', "bytes"),
    ],
)
def test_bad_details_are_refused_with_a_reason(details: bytes, problem: str) -> None:
    """T004-23."""
    with pytest.raises(ValueError, match=problem):
        parse_details(details)


def test_brackets_within_texts_are_no_depth() -> None:
    assert parse_details(b'{"a":"' + b'[\\"{' * 100 + b'"}')["a"].startswith('["{')


def test_a_pointer_leads_to_each_element_of_an_array() -> None:
    document = {"genres": [1, 2], "a/b": {"c": ["x"]}, "none": None}
    assert list(resolve(document, "/genres/*")) == [1, 2]
    assert list(resolve(document, "/a~1b/c/0")) == ["x"]
    assert list(resolve(document, "/none")) == []


@pytest.mark.parametrize(
    "text", ["38", "038v", "0v", "38V", "v", "38vv", "٣v", "1234567890123456v", "38v\n", ""]
)
def test_what_is_no_id(text: str) -> None:
    """T004-04."""
    assert not is_id(text)


@given(strategies.integers(1, 10**15 - 1), strategies.sampled_from("abcxyz"))
def test_an_id_is_an_integer_and_back(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert is_id(text)
    assert unpack(pack(text)) == text


@given(
    strategies.tuples(strategies.integers(1, 10**15 - 1), strategies.sampled_from("abz")), strategies.data()
)
def test_integers_sort_by_number_and_then_by_type(one: tuple[int, str], data: strategies.DataObject) -> None:
    """T004-05: as strings, "1000v" would come before "384v"."""
    other = data.draw(strategies.tuples(strategies.integers(1, 10**15 - 1), strategies.sampled_from("abz")))
    assert (pack(f"{one[0]}{one[1]}") < pack(f"{other[0]}{other[1]}")) is (one < other)


def test_a_type_names_every_mistake_in_details() -> None:
    of = ResourceType("v", "video", ("/title",), "/container", "videos", True, {"t": "/type"}, ("/views",))
    indexed = of.index({"container": "50", "type": 1.5, "views": "many"})
    assert [each.field for each in indexed.violations] == [
        "details/title",
        "details/container",
        "details/type",
        "details/views",
    ]
    found = of.index({"title": "x", "container": "50c", "type": "clips", "views": 3})
    assert (found.parent, found.keys, found.scores) == ("50c", ("50c:videos", "t:clips"), (3.0,))


@given(strategies.floats(allow_nan=False), strategies.integers(1, 2**55), strategies.integers(0, 2**62))
def test_a_token_is_a_place_for_its_query_alone(score: float, packed: int, version: int) -> None:
    token = write_token(7, Cursor(version, (score, packed)))
    assert read_token(token, 7) == Cursor(version, (score, packed))
    with pytest.raises(InvalidRequest, match="another query"):
        read_token(token, 8)
    for damaged in (token[:-2], token[1:], token[:10] + ("A" if token[10] != "A" else "B") + token[11:], "€"):
        with pytest.raises(InvalidRequest, match="damaged"):
            read_token(damaged, 7)
