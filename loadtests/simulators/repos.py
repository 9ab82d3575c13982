"""Repositories that are made: a key, records, the signed commit over their tree, and the CAR file."""

from collections.abc import Mapping
from typing import Any

import libipld
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs.atproto import dag_cbor
from libs.atproto.car import write_car
from libs.atproto.cid import cid_of
from libs.atproto.tree import build

_CURVES: dict[str, tuple[ec.EllipticCurve, bytes, int]] = {
    "k256": (
        ec.SECP256K1(),
        b"\xe7\x01",
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    ),
    "p256": (
        ec.SECP256R1(),
        b"\x80\x24",
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    ),
}


class Signer:
    """An account's key."""

    def __init__(self, secret: int = 7, curve: str = "k256") -> None:
        self._curve, prefix, self._order = _CURVES[curve]
        self._key = ec.derive_private_key(secret, self._curve)
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.multikey: str = libipld.encode_multibase("z", prefix + point)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + min(s, self._order - s).to_bytes(32)


def make_commit(signer: Signer, did: str, rev: str, data: bytes) -> bytes:
    """The block of a signed commit."""
    unsigned = {"did": did, "version": 3, "data": data, "rev": rev, "prev": None}
    return dag_cbor.encode({**unsigned, "sig": signer.sign(dag_cbor.encode(unsigned))})


def make_blocks(
    records: Mapping[str, Any], signer: Signer, did: str, rev: str
) -> tuple[bytes, dict[bytes, bytes]]:
    """The CID of the commit, and every block by its CID; `records` are values by `collection/key`."""
    encoded = {path.encode(): dag_cbor.encode(records[path]) for path in sorted(records)}
    data, nodes = build([(key, cid_of(block)) for key, block in encoded.items()])
    commit = make_commit(signer, did, rev, data)
    root = cid_of(commit)
    return root, {root: commit, **nodes, **{cid_of(block): block for block in encoded.values()}}


def make_car(records: Mapping[str, Any], signer: Signer, did: str, rev: str) -> bytes:
    """The CAR file of a repository."""
    return write_car(*make_blocks(records, signer, did, rev))
