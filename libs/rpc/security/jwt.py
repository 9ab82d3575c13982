"""JSON Web Tokens (RFC 7519), checked against the keys of a JWKS file (RFC 7517).

`sub` names the caller, `exp` is required, and these claims are Tally's own:

    {"tally_roles": ["write"], "tally_video_id_prefix": "tenant-a/", "tally_event_types": ["view"]}
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt

from libs.rpc.security.callers import Caller, make_caller
from libs.rpc.security.watched import Watched
from tally.contract.errors import Unauthenticated

# Of public keys alone: with a symmetric key, every server that checks tokens could make them.
_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
_CLOCK_SKEW_SECONDS = 30
_MAX_KNOWN = 1_000

Keys = Mapping[str, jwt.PyJWK]
"""by key id"""


class JwtTokens:
    """Reads the callers of tokens. A token that was found good is looked up by its hash until it expires.

    Only good tokens are remembered, and at most a thousand of them: bad ones cost no memory.
    """

    def __init__(
        self,
        jwks: Path,
        issuer: str | None,
        audience: str | None,
        *,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        """Raises NotReady when the file cannot be read."""
        self._keys: Watched[Keys] = Watched("the keys of JWTs", [jwks], _read_keys)
        self._issuer = issuer
        self._audience = audience
        self._time_s = time_s
        self._known: dict[str, tuple[float, Caller]] = {}
        self._known_by = self._keys.current

    def read(self, token: str, token_hash: str) -> Caller:
        """The caller. Raises Unauthenticated."""
        keys = self._keys.current
        if keys is not self._known_by:  # a key that was taken out must not be good any longer
            self._known.clear()
            self._known_by = keys
        known = self._known.get(token_hash)
        if known is not None and known[0] > self._time_s():
            return known[1]
        claims = self._check(token, keys)
        caller = _caller_of(claims)
        if len(self._known) >= _MAX_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[token_hash] = (float(claims["exp"]) + _CLOCK_SKEW_SECONDS, caller)
        return caller

    def _check(self, token: str, keys: Keys) -> Mapping[str, Any]:
        try:
            key = keys.get(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise _invalid("its key is not in the JWKS file")
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=_CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; get a new one", reason="TOKEN_EXPIRED") from None
        except jwt.PyJWTError as error:
            raise _invalid(type(error).__name__) from None
        return claims


def _read_keys(contents: Sequence[bytes]) -> Keys:
    """Raises ValueError."""
    try:
        document = json.loads(contents[0])
        keys = [jwt.PyJWK(each) for each in document["keys"] if each.get("use", "sig") == "sig"]
    except (ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError) as error:
        raise ValueError(f"it is no JWKS with keys that can be used: {type(error).__name__}") from None
    usable = {str(key.key_id): key for key in keys if key.key_id and key.algorithm_name in _ALGORITHMS}
    if not usable:
        raise ValueError("it has no public key with a key id (kid)")
    return usable


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    roles, types = claims.get("tally_roles", []), claims.get("tally_event_types")
    prefix = claims.get("tally_video_id_prefix", "")
    are_texts = all(
        isinstance(each, list) and _are_texts(each) for each in (roles, [] if types is None else types)
    )
    if not (are_texts and isinstance(prefix, str)):
        raise _invalid("its claims tally_… are not of the right types")
    try:
        return make_caller(str(claims["sub"]), roles, prefix, types)
    except ValueError as error:
        raise _invalid(str(error)) from None


def _are_texts(found: Sequence[object]) -> bool:
    return all(isinstance(each, str) for each in found)


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated(f"the token is not valid: {why}", reason="TOKEN_INVALID")
