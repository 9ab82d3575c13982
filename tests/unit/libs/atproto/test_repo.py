"""A repository from a CAR file: all of it verified, and nothing that is wrong gets through."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.atproto.car import write_car
from libs.atproto.cid import cid_of
from libs.atproto.defects import Defect, Reason
from libs.atproto.keys import read_multikey
from libs.atproto.repo import Record, open_repo
from loadtests.simulators.repos import Signer, make_blocks, make_car

DID, REV = "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "3jzfcijpj2z2a"
RECORDS = {
    f"app.bsky.feed.{kind}/{number}": {"$type": f"app.bsky.feed.{kind}", "text": text}
    for kind in ("like", "post")
    for number, text in enumerate(("one", "two", "two"))
}
SIGNER = Signer()
CAR = make_car(RECORDS, SIGNER, DID, REV)


def read(car: bytes, signer: Signer = SIGNER, did: str = DID, max_blocks: int = 1000) -> list[Record]:
    return list(open_repo(car, did, read_multikey(signer.multikey), max_blocks=max_blocks).records())


def reason_of(do: Callable[[], object]) -> Reason:
    with pytest.raises(Defect) as refused:
        do()
    return refused.value.reason


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_every_record_comes_with_its_key_and_equal_ones_count_twice(curve: str) -> None:  # T002-26
    signer = Signer(curve=curve)
    repo = open_repo(make_car(RECORDS, signer, DID, REV), DID, read_multikey(signer.multikey))
    records = list(repo.records())
    assert repo.rev == REV
    assert [f"{record.collection}/{record.key}" for record in records] == sorted(RECORDS)
    assert len({record.cid for record in records}) == 4
    assert all(cid_of(record.block) == record.cid for record in records)


def test_what_the_signed_tree_does_not_reach_is_no_record() -> None:
    root, blocks = make_blocks(RECORDS, SIGNER, DID, REV)
    extra = b"\xa1\x61a\x01"
    assert len(read(write_car(root, {**blocks, cid_of(extra): extra}))) == len(RECORDS)


def test_a_block_with_other_bytes_than_its_cid_says_is_found() -> None:  # T002-29
    root, blocks = make_blocks(RECORDS, SIGNER, DID, REV)
    for key in blocks:
        changed = {**blocks, key: blocks[key][:-1] + bytes([blocks[key][-1] ^ 1])}
        assert reason_of(lambda changed=changed: read(write_car(root, changed))) is Reason.BLOCK_CHANGED  # type: ignore[misc]


def test_a_file_that_was_cut_is_incomplete_wherever_it_was_cut() -> None:  # T002-30
    for end in range(len(CAR)):
        with pytest.raises(Defect) as refused:
            read(CAR[:end])
        assert refused.value.is_transient


@settings(max_examples=300)
@given(st.integers(0, len(CAR) - 1), st.integers(1, 255))
def test_no_changed_byte_gets_through(position: int, change: int) -> None:
    changed = bytearray(CAR)
    changed[position] ^= change
    with pytest.raises(Defect):
        read(bytes(changed))


def test_a_signature_of_another_key_and_another_accounts_repository_are_refused() -> None:
    assert reason_of(lambda: read(CAR, Signer(8))) is Reason.SIGNATURE_INVALID
    assert reason_of(lambda: read(CAR, did="did:plc:z72i7hdynmk6r22z27h6tvur")) is Reason.WRONG_REPO


def test_a_file_of_too_many_blocks_is_refused() -> None:
    assert reason_of(lambda: read(CAR, max_blocks=3)) is Reason.LIMIT_EXCEEDED
