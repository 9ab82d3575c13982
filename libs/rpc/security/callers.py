"""Who may call: a file of callers, each known by the name in its certificate or by the hash of its token.

[[caller]]
name = "web of tenant a"
token_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
roles = ["write", "read"]
video_id_prefix = "tenant-a/"
event_types = ["view", "like"]

[[caller]]
name = "tally's services"
certificate = "tally-service"
roles = ["internal", "write", "operate"]
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.rpc.security.roles import INTERNAL, OPERATE, ROLES, with_included

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = frozenset({"name", "certificate", "token_sha256", "roles", "video_id_prefix", "event_types"})


@dataclass(frozen=True, slots=True)
class Restriction:
    """The events that a caller may count and read."""

    video_id_prefix: str = ""
    event_types: frozenset[str] | None = None
    """None: all of them"""

    @property
    def is_any(self) -> bool:
        """Whether it leaves something out."""
        return bool(self.video_id_prefix) or self.event_types is not None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is known."""

    name: str
    """as the log has it"""
    roles: frozenset[str]
    """with those that they include"""
    restriction: Restriction | None = None


@dataclass(frozen=True, slots=True)
class Callers:
    """All who are known, by what they show."""

    by_token_hash: Mapping[str, Caller] = field(default_factory=dict, repr=False)
    by_certificate: Mapping[str, Caller] = field(default_factory=dict)


def read_callers(contents: Sequence[bytes]) -> Callers:
    """The callers of a file. Raises ValueError with a sentence for what is wrong, which repeats no hash."""
    try:
        document = tomllib.loads(contents[0].decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not TOML: {type(error).__name__}") from None
    entries = document.pop("caller", [])
    if document or not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ValueError("it holds tables [[caller]], and nothing else")
    by_token_hash: dict[str, Caller] = {}
    by_certificate: dict[str, Caller] = {}
    for number, entry in enumerate(entries, 1):
        try:
            caller = _read_caller(entry)
            _add(by_token_hash, entry.get("token_sha256"), caller, "token_sha256")
            _add(by_certificate, entry.get("certificate"), caller, "certificate")
        except ValueError as error:
            raise ValueError(f"caller {number}: {error}") from None
    return Callers(by_token_hash, by_certificate)


def make_caller(
    name: str, roles: Sequence[str], video_id_prefix: str = "", event_types: Sequence[str] | None = None
) -> Caller:
    """A caller with these roles. Raises ValueError with a sentence for what is wrong."""
    if not roles or not set(roles) <= ROLES:
        raise ValueError(f"roles must be some of {', '.join(sorted(ROLES))}")
    restriction = Restriction(video_id_prefix, None if event_types is None else frozenset(event_types))
    if not restriction.is_any:
        return Caller(name, with_included(roles))
    if set(roles) & {OPERATE, INTERNAL}:
        raise ValueError("video_id_prefix and event_types restrict the roles write and read alone")
    return Caller(name, with_included(roles), restriction)


def _read_caller(entry: Mapping[str, Any]) -> Caller:
    if unknown := entry.keys() - _KEYS:
        raise ValueError(f"there is no key {', '.join(sorted(unknown))}")
    name, prefix = entry.get("name"), entry.get("video_id_prefix", "")
    if not isinstance(name, str) or not name or not isinstance(prefix, str):
        raise ValueError("name must be a text, and so must video_id_prefix")
    if "token_sha256" not in entry and "certificate" not in entry:
        raise ValueError("token_sha256 or certificate must say how the caller is known")
    if not _SHA256.fullmatch(str(entry.get("token_sha256", "0" * 64))):
        raise ValueError(
            "token_sha256 must be the SHA-256 of the token in 64 hexadecimal digits, never the token"
        )
    return make_caller(name, _texts(entry, "roles") or (), prefix, _texts(entry, "event_types"))


def _texts(entry: Mapping[str, Any], key: str) -> Sequence[str] | None:
    found = entry.get(key)
    if found is not None and not (isinstance(found, list) and all(isinstance(each, str) for each in found)):
        raise ValueError(f"{key} must be a list of texts")
    return found


def _add(callers: dict[str, Caller], shown: object, caller: Caller, key: str) -> None:
    if shown is None:
        return
    if not isinstance(shown, str) or not shown or shown in callers:
        raise ValueError(f"{key} must be a text, and belong to one caller alone")
    callers[shown] = caller
