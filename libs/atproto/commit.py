"""The signed commit at the root of a repository (https://atproto.com/specs/repository#commit-objects)."""

from dataclasses import dataclass

from libs.atproto import cid, dag_cbor, syntax
from libs.atproto.defects import Defect, Reason
from libs.atproto.keys import PublicKey

VERSION = 3


@dataclass(frozen=True, slots=True)
class Commit:
    """The signed part of a commit."""

    did: str
    rev: str
    """a TID: the version of the repository"""
    data: bytes
    """the CID of the tree's root"""
    signature: bytes
    signed: bytes
    """the bytes that the signature is over"""


def read_commit(block: bytes) -> Commit:
    """Raises Defect when it is no commit of version 3 in canonical form."""
    value = dag_cbor.decode(block, Reason.COMMIT_MALFORMED)
    match value:
        case {
            "did": str(did),
            "version": 3,
            "data": bytes(data),
            "rev": str(rev),
            "prev": prev,
            "sig": bytes(signature),
            **others,
        } if (
            not others
            and syntax.is_did(did)
            and syntax.is_tid(rev)
            and cid.is_dag_cbor(data)
            and (prev is None or (isinstance(prev, bytes) and cid.is_dag_cbor(prev)))
        ):
            unsigned = {name: each for name, each in value.items() if name != "sig"}
            return Commit(did, rev, data, signature, dag_cbor.encode(unsigned))
    raise Defect(Reason.COMMIT_MALFORMED, f"the root is not a commit of version {VERSION}")


def check_signature(commit: Commit, key: PublicKey) -> None:
    """Raises Defect unless the key of the account made the signature."""
    if not key.verifies(commit.signature, commit.signed):
        raise Defect(Reason.SIGNATURE_INVALID, f"the commit is not signed by the key of {commit.did}")
