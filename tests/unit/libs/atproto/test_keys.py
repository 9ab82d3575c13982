"""Keys and signatures, by the protocol's own examples."""

import base64
from typing import Any

import libipld
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs.atproto.defects import Defect, Reason
from libs.atproto.keys import read_did_key, read_key, read_multikey
from tests.unit.libs.atproto.vectors import read_json

SIGNATURES = read_json("crypto/signature-fixtures.json")
PRIVATE_KEYS = [
    (ec.SECP256K1(), each["privateKeyBytesHex"], "hex", each["publicDidKey"])
    for each in read_json("crypto/w3c_didkey_K256.json")
] + [
    (ec.SECP256R1(), each["privateKeyBytesBase58"], "base58", each["publicDidKey"])
    for each in read_json("crypto/w3c_didkey_P256.json")
]


def decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("fixture", SIGNATURES, ids=lambda fixture: fixture["comment"])
def test_a_signature_is_told_right_by_either_form_of_its_key(fixture: dict[str, Any]) -> None:
    message, signature = decode(fixture["messageBase64"]), decode(fixture["signatureBase64"])
    for key in (
        read_did_key(fixture["publicKeyDid"]),
        read_key(fixture["didDocSuite"], fixture["publicKeyMultibase"]),
    ):
        assert key.verifies(signature, message) is fixture["validSignature"]
        assert not key.verifies(signature, message + b"!")


@pytest.mark.parametrize(("curve", "private", "form", "did"), PRIVATE_KEYS)
def test_a_did_key_is_the_public_key_of_its_private_one(
    curve: ec.EllipticCurve, private: str, form: str, did: str
) -> None:
    data = bytes.fromhex(private) if form == "hex" else libipld.decode_multibase("z" + private)[1]
    public = ec.derive_private_key(int.from_bytes(data), curve).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    prefix = b"\xe7\x01" if curve.name == "secp256k1" else b"\x80\x24"
    assert "did:key:" + libipld.encode_multibase("z", prefix + point) == did
    read_did_key(did)


@pytest.mark.parametrize(
    "text", ["", "zzz", "uAAAA", "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", "z0OIl"]
)
def test_a_key_of_another_kind_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(Defect) as refused:
        read_multikey(text)
    assert refused.value.reason is Reason.KEY_UNSUPPORTED
