from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tally.client.request_id import RequestIds, make_request_id

TIMES_MS = st.integers(min_value=0, max_value=2**48 - 1)


def test_the_example_of_rfc_9562_is_laid_out_bit_by_bit() -> None:
    # Appendix A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert make_request_id(1_645_557_742_000, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(TIMES_MS, st.binary(min_size=10, max_size=10))
def test_an_id_is_a_version_7_uuid_that_holds_its_time(now_ms: int, random: bytes) -> None:
    text = make_request_id(now_ms, random)
    parsed = UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, "specified in RFC 4122")
    assert parsed.int >> 80 == now_ms


@given(TIMES_MS, st.integers(min_value=0, max_value=2**74 - 1), st.integers(min_value=0, max_value=2**74 - 1))
def test_all_74_random_bits_are_in_the_id(now_ms: int, one: int, other: int) -> None:
    first, second = (make_request_id(now_ms, bits.to_bytes(10, "big")) for bits in (one, other))
    assert (first == second) == (one == other)


def test_ids_are_made_by_the_given_time_and_randomness() -> None:
    ids = RequestIds(now_us=lambda: 1_645_557_742_000_999, random=bytes)
    assert ids.make() == "017f22e2-79b0-7000-8000-000000000000"


def test_a_thousand_ids_of_one_moment_differ() -> None:
    ids = RequestIds(now_us=lambda: 1_645_557_742_000_000)
    assert len({ids.make() for _ in range(1_000)}) == 1_000
