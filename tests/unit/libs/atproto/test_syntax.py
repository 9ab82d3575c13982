"""Identifiers and times, by the protocol's own lists of valid and invalid ones."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.atproto import syntax
from libs.atproto.cid import has_cid_syntax
from tests.unit.libs.atproto.vectors import read_lines


def is_at_identifier(text: str) -> bool:
    return syntax.is_did(text) or syntax.is_handle(text)


CHECKS: dict[str, Callable[[str], bool]] = {
    "atidentifier_syntax": is_at_identifier,
    "aturi_syntax": syntax.is_at_uri,
    "cid_syntax": has_cid_syntax,
    "datetime_syntax": syntax.has_datetime_syntax,
    "did_syntax": syntax.is_did,
    "handle_syntax": syntax.is_handle,
    "nsid_syntax": syntax.is_nsid,
    "recordkey_syntax": syntax.is_record_key,
    "tid_syntax": syntax.is_tid,
}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("expected", [True, False], ids=["valid", "invalid"])
def test_a_list_of_the_protocol_is_told_right(name: str, expected: bool) -> None:
    lines = read_lines(f"syntax/{name}_{'valid' if expected else 'invalid'}.txt")
    assert lines
    assert [line for line in lines if CHECKS[name](line) is not expected] == []


def test_every_valid_time_is_read_and_every_impossible_one_refused() -> None:
    for line in read_lines("syntax/datetime_syntax_valid.txt"):
        syntax.parse_datetime(line)
    for line in read_lines("syntax/datetime_parse_invalid.txt"):
        with pytest.raises(ValueError, match=r"."):
            syntax.parse_datetime(line)


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20.1234567Z", 1_700_000_000_123_456),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500_000),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
    ],
)
def test_a_time_is_microseconds_since_1970(text: str, time_us: int) -> None:
    assert syntax.parse_datetime(text) == time_us


@given(st.integers(0, (1 << 53) - 1), st.integers(0, 1023))
def test_a_tid_holds_its_time(time_us: int, clock_id: int) -> None:
    tid = syntax.make_tid(time_us, clock_id)
    assert syntax.is_tid(tid)
    assert syntax.time_of_tid(tid) == time_us


@given(st.integers(0, (1 << 53) - 2), st.integers(0, 1023), st.integers(0, 1023))
def test_tids_sort_as_their_times(time_us: int, one: int, other: int) -> None:
    assert syntax.make_tid(time_us, one) < syntax.make_tid(time_us + 1, other)
