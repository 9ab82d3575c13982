"""Columns of names against lists: whatever the bytes are, they come back, and are compared as bytes are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.names import Names, cut_names, encode_names, join_names, names_of

BYTES = st.lists(
    st.binary(max_size=20) | st.sampled_from([b"a", b"a\0", b"a\0\0", b"12345678", b"12345678\0"])
)
STRINGS = st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=12)), max_size=5)


@given(BYTES)
def test_names_come_back_as_they_were(names: list[bytes]) -> None:
    column = names_of(names)
    assert column.tolist() == names
    assert column.joined() == b"".join(names)
    assert cut_names(column.joined(), column.sizes).tolist() == names


@given(STRINGS)
def test_strings_of_several_dictionaries_are_one_column_of_their_bytes(dictionaries: list[list[str]]) -> None:
    assert encode_names(dictionaries).tolist() == [name.encode() for names in dictionaries for name in names]


@pytest.mark.parametrize(
    "names", [["eleven_byte", "eleven_byt2"], ["a", "ab"], ["é", "🎬"], ["a\0b", "c"], ["", "a"]]
)
def test_strings_of_one_size_of_several_and_with_zeros_are_encoded(names: list[str]) -> None:
    assert encode_names([names, [], names[:1]]).tolist() == [name.encode() for name in [*names, names[0]]]


@given(st.lists(BYTES, min_size=1, max_size=4))
def test_columns_of_any_width_are_joined(parts: list[list[bytes]]) -> None:
    assert join_names(list(map(names_of, parts))).tolist() == [name for part in parts for name in part]


@given(BYTES.filter(len))
def test_names_are_in_the_order_of_their_bytes_and_equal_only_to_themselves(names: list[bytes]) -> None:
    column = names_of(names)
    assert [names[place] for place in np.lexsort(column.sort_keys())] == sorted(names)
    left, right = np.indices((len(names), len(names))).reshape(2, -1)
    expected = [names[a] == names[b] for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    assert column.are_equal(left, right).tolist() == expected


def test_some_of_a_column_are_a_column() -> None:
    column = names_of([b"a", b"longer than a word", b"c"])
    assert column.take(slice(1, None)).tolist() == [b"longer than a word", b"c"]
    taken: Names = column.take(np.array([2, 0]))
    assert (taken.tolist(), len(taken)) == ([b"c", b"a"], 2)
