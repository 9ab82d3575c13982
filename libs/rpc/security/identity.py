"""Who a caller is: by the token that it sends, else by the name in its certificate.

A token decides alone: with one that is not known, a caller is nobody, whatever certificate its connection has. The
certificate of a proxy that is trusted to forward stands for nobody either; then the name is that in its header.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from libs.rpc.security.callers import Caller, Callers
from libs.rpc.security.forwarded import HEADER, read_name
from tally.contract.errors import Unauthenticated

_AUTHORIZATION = "authorization"
_SCHEME = "bearer "
# gRPC refuses calls by chance once their metadata exceed 8 KiB.
_LONGEST_TOKEN = 4 * 1024
_MAX_KNOWN = 1_000

ReadJwt = Callable[[str, str], Caller]
"""The caller of a JWT, by the token and its hash. Raises Unauthenticated."""


class Identify:
    """Finds the caller of a call. It tells nothing of a token.

    Callers are looked up by the whole header once it was found good, which spares each call the hash of its token. At
    most a thousand are kept, none of them of a refused call, and all are dropped when the file of callers changes.
    """

    def __init__(
        self, callers: Callable[[], Callers], forwarded_by: frozenset[str], read_jwt: ReadJwt | None
    ) -> None:
        self._callers = callers
        self._forwarded_by = forwarded_by
        self._read_jwt = read_jwt
        self._known: dict[str, Caller] = {}
        self._known_by = callers()

    def __call__(self, context: Any) -> Caller:
        """The caller of a call that gRPC's context stands for. Raises Unauthenticated."""
        authorization = forwarded = None
        for key, value in context.invocation_metadata():
            if key == _AUTHORIZATION:
                if authorization is not None:
                    raise Unauthenticated("there is more than one token", reason="TOKEN_INVALID")
                authorization = value
            elif key == HEADER:
                # Twice: a proxy added its own to that of somebody else.
                forwarded = "" if forwarded is not None else value
        callers = self._callers()
        if authorization is not None:
            if callers is not self._known_by:  # a token that was taken out must not be good any longer
                self._known.clear()
                self._known_by = callers
            return self._known.get(authorization) or self._of_token(authorization, callers)
        name = _peer_name(context)
        if name in self._forwarded_by:
            name = None if forwarded is None else read_name(forwarded)
        caller = None if name is None else callers.by_certificate.get(name)
        if caller is None:
            raise Unauthenticated(
                "this server knows its callers: send a token (TALLY_TOKEN, or `authorization: Bearer …`), or connect "
                "with a certificate whose name it knows",
                reason="CREDENTIALS_MISSING",
            )
        return caller

    def _of_token(self, authorization: str, callers: Callers) -> Caller:
        if authorization[: len(_SCHEME)].lower() != _SCHEME or len(authorization) > _LONGEST_TOKEN:
            raise Unauthenticated("`authorization` must be `Bearer` and a token", reason="TOKEN_INVALID")
        token = authorization[len(_SCHEME) :].strip()
        token_hash = sha256(token.encode()).hexdigest()
        caller = callers.by_token_hash.get(token_hash)
        if caller is not None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[authorization] = caller
            return caller
        if self._read_jwt is not None and token.count(".") == 2:  # header, claims and signature
            return self._read_jwt(token, token_hash)
        raise Unauthenticated("this server does not know the token", reason="TOKEN_UNKNOWN")


def _peer_name(context: Any) -> str | None:
    """The common name of the certificate that the other side of the connection has shown."""
    names = context.auth_context().get("x509_common_name", ())
    return names[0].decode(errors="replace") if len(names) == 1 else None
