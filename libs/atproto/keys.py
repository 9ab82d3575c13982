"""Public keys of accounts and their signatures: p256 and k256, low-S only (https://atproto.com/specs/cryptography)."""

from dataclasses import dataclass

import libipld
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from libs.atproto.defects import Defect, Reason

SIGNATURE_BYTES = 64

_HASH = ec.ECDSA(hashes.SHA256())
_HALF = SIGNATURE_BYTES // 2


@dataclass(frozen=True, slots=True)
class _Curve:
    curve: ec.EllipticCurve
    order: int
    """of the group: a signature and its mirror image differ in s and order - s"""


_P256 = _Curve(ec.SECP256R1(), 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551)
_K256 = _Curve(ec.SECP256K1(), 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141)
# Multicodec: https://github.com/multiformats/multicodec
_MULTIKEYS = {b"\x80\x24": _P256, b"\xe7\x01": _K256}
_SUITES = {"EcdsaSecp256r1VerificationKey2019": _P256, "EcdsaSecp256k1VerificationKey2019": _K256}


class PublicKey:
    """A key that verifies."""

    def __init__(self, curve: _Curve, point: bytes) -> None:
        """`point` is compressed or not. Raises Defect when it is not on the curve."""
        self._order = curve.order
        try:
            self._key = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, point)
        except ValueError as error:
            raise Defect(Reason.KEY_UNSUPPORTED, "the key is not a point of its curve") from error

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether it is the signature of the message: 64 bytes, r and s, with the smaller one of the two s."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        r, s = int.from_bytes(signature[:_HALF]), int.from_bytes(signature[_HALF:])
        if s > self._order // 2:
            return False
        try:
            self._key.verify(encode_dss_signature(r, s), message, _HASH)
        except InvalidSignature:
            return False
        return True


def read_did_key(did: str) -> PublicKey:
    """The key in a `did:key:…`. Raises Defect when it is of a kind that the protocol does not have."""
    return read_multikey(did.removeprefix("did:key:"))


def read_multikey(text: str) -> PublicKey:
    """The key of the type Multikey: its kind is in its first bytes. Raises Defect."""
    data = _decode(text)
    curve = _MULTIKEYS.get(data[:2])
    if curve is None:
        raise Defect(Reason.KEY_UNSUPPORTED, "the key is neither p256 nor k256")
    return PublicKey(curve, data[2:])


def read_key(kind: str, text: str) -> PublicKey:
    """The key of a DID document's verification method, of the types that the protocol has had. Raises Defect."""
    if kind == "Multikey":
        return read_multikey(text)
    if kind not in _SUITES:
        raise Defect(Reason.KEY_UNSUPPORTED, f"a verification method of the type {kind!r} has no key of ours")
    return PublicKey(_SUITES[kind], _decode(text))


def _decode(text: str) -> bytes:
    if not text.startswith("z"):
        raise Defect(Reason.KEY_UNSUPPORTED, "the key is not written in base58btc")
    try:
        _, data = libipld.decode_multibase(text)
    except ValueError as error:
        raise Defect(Reason.KEY_UNSUPPORTED, "the key is not written in base58btc") from error
    return bytes(data)
