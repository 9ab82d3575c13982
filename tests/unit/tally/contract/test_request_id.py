"""Request ids: their layout, and what is refused in the place of one."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.contract.request_id import (
    first_id_of,
    make_request_id,
    parse_request_id,
    request_id_of,
    time_ms_of,
)
from tests.unit.libs.domain.batches import MODEST

TIMES_MS = st.integers(0, 2**48 - 1)
GOOD = "01890a5d-ac96-774b-bcce-b302099a8057"


@MODEST
@given(TIMES_MS)
def test_an_id_has_the_layout_of_rfc_9562(ms: int) -> None:
    made = make_request_id(ms)
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == ms
    assert (time_ms_of(made), parse_request_id(str(made))) == (ms, made)


def test_the_example_of_rfc_9562_is_laid_out_and_read_bit_by_bit() -> None:
    # Appendix A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    text = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert str(request_id_of(1_645_557_742_000, 0xCC3 << 62 | 0x18C4DC0C0C07398F)) == text
    assert time_ms_of(parse_request_id(text)) == 1_645_557_742_000


@MODEST
@given(TIMES_MS, st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_the_low_74_bits_that_are_given_are_all_in_the_id(ms: int, one: int, other: int) -> None:
    made = request_id_of(ms, one)
    assert (made.version, made.variant, time_ms_of(made)) == (7, uuid.RFC_4122, ms)
    assert (made == request_id_of(ms, other)) == ((one ^ other) % 2**74 == 0)


def test_ids_of_one_millisecond_differ_in_74_bits() -> None:
    ids = [make_request_id(0).int for _ in range(200)]
    ones, zeros = 0, 0
    for number in ids:
        ones, zeros = ones | number, zeros | ~number
    assert (ones & zeros & (2**128 - 1)).bit_count() == 74
    assert len(set(ids)) == 200


@MODEST
@given(TIMES_MS, TIMES_MS)
def test_the_first_id_of_a_time_parts_earlier_ids_from_later_ones(ms: int, other: int) -> None:
    made = make_request_id(ms)
    assert (made >= first_id_of(other)) == (ms >= other)


def test_the_first_id_of_a_time_before_1970_is_below_all() -> None:
    assert first_id_of(-1) == uuid.UUID(int=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 36,
        GOOD.upper(),  # one id, one text: a stream's answers are told apart by it
        GOOD.replace("-", ""),
        "{" + GOOD + "}",
        "{" + GOOD[1:-1] + "}",
        "urn:uuid:" + GOOD,
        "uuid:" + GOOD[5:],
        GOOD + "0",
        GOOD[:-1],
        GOOD + "\n",
        " " + GOOD[1:],
        GOOD.replace("-", "_"),
        GOOD.replace("-774b-", "7-74b-"),
        GOOD.replace("0", "\u0660"),  # a digit to int(), and none of the RFC's
    ],
    ids=repr,
)
def test_only_the_usual_text_form_is_taken(text: str) -> None:
    with pytest.raises(ValueError, match="must be a UUID version 7 in its usual text form"):
        parse_request_id(text)


@pytest.mark.parametrize("version", [1, 3, 4, 5, 6, 8])
def test_another_version_is_named_and_the_right_one_too(version: int) -> None:
    text = f"{GOOD[:14]}{version}{GOOD[15:]}"
    with pytest.raises(ValueError, match=rf"of version {version}; use version 7 \(RFC 9562\)"):
        parse_request_id(text)


@pytest.mark.parametrize(
    "text", [GOOD[:19] + "0" + GOOD[20:], str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))]
)
def test_another_variant_has_no_version_to_be_named(text: str) -> None:
    with pytest.raises(ValueError, match="must be a UUID version 7 in its usual text form"):
        parse_request_id(text)
