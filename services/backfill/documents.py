"""DID documents: the host of an account's repository, and the key that signs it. Pure.

https://atproto.com/specs/did#did-documents. Only the service `#atproto_pds` and the key `#atproto` count (T002-27).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from libs.atproto.syntax import is_did
from tally.contract.rules import MAX_ID_BYTES

_HOST_TYPE = "AtprotoPersonalDataServer"
_MOST_URL = 2_048
_PLC = re.compile(r"did:plc:[a-z2-7]{24}", re.ASCII)
_WEB = re.compile(r"did:web:[a-zA-Z0-9.-]+(?:%3A\d{1,5})?", re.ASCII)


class NoAccount(Exception):
    """The document is not that of an account with a repository. It stays so until the document changes."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Account:
    """The known data of an account."""

    did: str
    host: str
    """the URL of its host, without a trailing slash"""
    key_type: str
    key: str


def is_resolvable(did: str) -> bool:
    """Whether it is a did:plc or a did:web without a path, of at most 128 bytes."""
    if not is_did(did) or len(did) > MAX_ID_BYTES:
        return False
    return _PLC.fullmatch(did) is not None or _WEB.fullmatch(did) is not None


def url_of(did: str, directory: str, *, simulated: bool) -> str:
    """Where the document of a DID is."""
    if did.startswith("did:plc:"):
        return f"{directory.rstrip('/')}/{did}"
    scheme = "http" if simulated else "https"
    return f"{scheme}://{unquote(did.removeprefix('did:web:'))}/.well-known/did.json"


def read_document(did: str, document: Any) -> Account:
    """The account of a document. Raises NoAccount."""
    if not isinstance(document, Mapping) or document.get("id") != did:
        raise NoAccount("document_malformed", "the document is not that of the DID")
    host = _find(document.get("service"), did, "#atproto_pds")
    match host:
        case {"type": str(kind), "serviceEndpoint": str(url)} if kind == _HOST_TYPE and len(url) <= _MOST_URL:
            pass
        case _:
            raise NoAccount("no_host", "the document names no host of the type AtprotoPersonalDataServer")
    match _find(document.get("verificationMethod"), did, "#atproto"):
        case {"type": str(key_type), "publicKeyMultibase": str(key)}:
            return Account(did, url.rstrip("/"), key_type, key)
    raise NoAccount("no_key", "the document has no key `#atproto`")


def _find(entries: Any, did: str, fragment: str) -> Any:
    """The first entry with this id, written with the DID or without it."""
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and entry.get("id") in (fragment, did + fragment):
            return entry
    return None
