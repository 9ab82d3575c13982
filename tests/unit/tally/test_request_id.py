"""The ids of one client. Their layout is that of tally.contract."""

from tally.client.request_id import RequestIds


def test_ids_are_made_by_the_given_time_and_randomness() -> None:
    ids = RequestIds(now_us=lambda: 1_645_557_742_000_999, random=bytes)
    assert ids.make() == "017f22e2-79b0-7000-8000-000000000000"
    # the example of RFC 9562, appendix A.6
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert RequestIds(lambda: 1_645_557_742_000_000, lambda _: random).make() == (
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    )


def test_a_thousand_ids_of_one_moment_differ() -> None:
    ids = RequestIds(now_us=lambda: 1_645_557_742_000_000)
    assert len({ids.make() for _ in range(1_000)}) == 1_000
