"""Records as DAG-CBOR and as JSON, by the protocol's own examples."""

import base64
from typing import Any

import pytest

from libs.atproto import cid, dag_cbor
from libs.atproto.defects import Defect, Reason
from tests.unit.libs.atproto.vectors import read_json

NOTES = [(each["note"], each["json"]) for each in read_json("data-model/data-model-invalid.json")]


@pytest.mark.parametrize(
    "fixture", read_json("data-model/data-model-fixtures.json"), ids=lambda each: each["cid"]
)
def test_both_forms_of_a_value_and_its_cid_agree(fixture: dict[str, Any]) -> None:
    written = fixture["cbor_base64"]
    block = base64.b64decode(written + "=" * (-len(written) % 4))
    assert cid.to_text(cid.cid_of(block)) == fixture["cid"]
    assert dag_cbor.encode(dag_cbor.from_json(fixture["json"])) == block
    assert dag_cbor.to_json(dag_cbor.decode(block, Reason.RECORD_MALFORMED)) == fixture["json"]


@pytest.mark.parametrize("value", [each["json"] for each in read_json("data-model/data-model-valid.json")])
def test_what_the_protocol_allows_is_taken(value: Any) -> None:
    assert dag_cbor.to_json(dag_cbor.from_json(value)) == value


@pytest.mark.parametrize("value", [value for note, value in NOTES if "top-level" not in note])
def test_what_the_protocol_forbids_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        dag_cbor.from_json(value)


def test_bytes_that_look_like_a_link_are_not_taken_for_one() -> None:  # T002-31
    link = cid.cid_of(b"something")
    as_bytes = b"\xa1\x61a\x58\x24" + link
    with pytest.raises(Defect, match="canonical"):
        dag_cbor.decode(as_bytes, Reason.RECORD_MALFORMED)


@pytest.mark.parametrize(
    "block", [b"", b"\xff", b"\xa2\x61b\x01\x61a\x02", b"\x18\x01", b"\x9f\xff", b"\xf9\x3c\x00"]
)
def test_a_block_that_is_not_canonical_is_refused(block: bytes) -> None:
    with pytest.raises(Defect):
        dag_cbor.decode(block, Reason.RECORD_MALFORMED)


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        dag_cbor.to_json({"a": [2**53 + 1]})
    assert dag_cbor.to_json({"a": [2**53, True]}) == {"a": [2**53, True]}
