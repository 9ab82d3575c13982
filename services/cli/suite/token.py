"""`tally token`: a new token, and its entry in the file of callers."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from libs.rpc.security.callers import read_callers
from services.cli.terminal.failure import USAGE, Failure

_BYTES = 32


@dataclass(frozen=True, slots=True)
class Made:
    """A token, which is kept nowhere, and what the servers need to know of it."""

    token: str = field(repr=False)
    entry: str
    """TOML"""


def make_token(name: str, roles: Sequence[str], prefix: str, event_types: Sequence[str] | None) -> Made:
    """Raises Failure for roles that there are not, and for a restriction that they cannot have."""
    token = secrets.token_urlsafe(_BYTES)
    fields: dict[str, object] = {
        "name": name,
        "token_sha256": sha256(token.encode()).hexdigest(),
        "roles": list(roles),
    }
    if prefix:
        fields["video_id_prefix"] = prefix
    if event_types is not None:
        fields["event_types"] = list(event_types)
    # JSON's texts and lists of texts are TOML's, where they hold no lone surrogates.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    entry = "\n".join(["[[caller]]", *lines, ""])
    try:
        read_callers([entry.encode()])
    except ValueError as error:
        raise Failure(f"the services could not use it: {error}", USAGE) from None
    return Made(token, entry)
