"""The check of every call of a server: who calls, whether the role suffices, and, after parsing, the restriction."""

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, Self

import structlog
from google.protobuf.text_format import MessageToString
from pydantic import BaseModel, Field, model_validator

from libs.rpc.parsing import Parse
from libs.rpc.security.callers import Caller, Callers, read_callers
from libs.rpc.security.identity import Identify, ReadJwt
from libs.rpc.security.restriction import REASON, can_be_checked, check_request
from libs.rpc.security.roles import OPERATE, role_of
from libs.rpc.security.watched import Watched
from tally.contract.errors import NotReady, PermissionDenied

_LOGGER = structlog.get_logger(__name__)

_MOST_LOGGED = 500
_HEALTH, _REFLECTION = "/grpc.health.", "/grpc.reflection."

Gate = Callable[[Any], None]
"""Lets a call in by gRPC's context, or raises Unauthenticated or PermissionDenied."""
Whom = Literal["anyone", "read", "operate", "internal"]

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
_again: ContextVar[Callable[[], None] | None] = ContextVar("again", default=None)
"""Checks once more who calls, for each request of a stream."""


class RolesSettings(BaseModel, frozen=True, extra="forbid"):
    """Who may call a server, and what."""

    callers_file: Path | None = Field(
        None,
        description="TOML file of callers: the name in a certificate or the SHA-256 of a token, and roles "
        "(docs/security.md); unset, and no jwks_file: everybody may call everything",
    )
    jwks_file: Path | None = Field(
        None, description="JWKS file with the public keys of JSON Web Tokens; unset: none are accepted"
    )
    jwt_issuer: str | None = Field(None, description="`iss` that a JWT must have; unset: any")
    jwt_audience: str | None = Field(None, description="`aud` that a JWT must have; unset: any")
    forwarded_by: tuple[str, ...] = Field(
        (),
        description="names in the certificates of proxies whose x-forwarded-client-cert header is believed",
    )
    health: Whom = Field("anyone", description="role that a caller of the health service needs, or `anyone`")
    reflection: Whom = Field("read", description="role that a caller of reflection needs, or `anyone`")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.jwks_file is None and (self.jwt_issuer is not None or self.jwt_audience is not None):
            raise ValueError("jwt_issuer and jwt_audience need jwks_file")
        return self

    @property
    def is_on(self) -> bool:
        """Whether callers must be known."""
        return self.callers_file is not None or self.jwks_file is not None


class Access:
    """Decides about the calls of one server."""

    def __init__(self, identify: Callable[[Any], Caller], settings: RolesSettings) -> None:
        self._identify = identify
        self._settings = settings

    def gate(self, method: str, *, is_stream: bool = False) -> Gate | None:
        """What lets calls of `/service/method` in; None: it is for anyone.

        `is_stream`: whether its requests come as a stream; then one of an operator is logged when it begins.
        """
        role = self._role_of(method)
        if role == "anyone":
            return None
        checkable = can_be_checked(method) or method.startswith(
            (_HEALTH, _REFLECTION)
        )  # they tell nothing of videos
        identify, is_looked_at = self._identify, role == OPERATE

        def check(context: Any) -> None:
            caller = identify(context)
            if role not in caller.roles:
                raise PermissionDenied(
                    f"{method.removeprefix('/')} needs the role {role}, which {caller.name!r} does not have"
                    if role
                    else f"{method.removeprefix('/')} is for nobody: its proto names no role",
                    reason="ROLE_MISSING",
                )
            if caller.restriction is not None and not checkable:
                raise PermissionDenied(
                    f"{caller.name!r} is restricted to some videos or types of events, and "
                    f"{method.removeprefix('/')} cannot be",
                    reason=REASON,
                )
            if is_looked_at or caller.restriction is not None:
                _caller.set(caller)

        def enter_stream(context: Any) -> None:
            check(context)
            _again.set(lambda: check(context))
            if role == OPERATE:
                _log_operation(method, None)

        return enter_stream if is_stream else check

    def checked(self, method: str, parse: Parse, *, is_stream: bool = False) -> Parse:
        """Parses, and then looks at the request: is it within the caller's restriction? An operator's is logged.

        Before each request of a stream, which may last for minutes, the caller is checked again.
        """
        if is_stream:
            return _checked_again(self._restricted(method, parse))
        if self._role_of(method) == OPERATE:

            def parse_logged(data: bytes) -> Any:
                request = parse(data)
                _log_operation(method, request)
                return request

            return parse_logged
        return self._restricted(method, parse)

    def _restricted(self, method: str, parse: Parse) -> Parse:
        if not can_be_checked(method):
            return parse

        def parse_checked(data: bytes) -> Any:
            request = parse(data)
            caller = _caller.get()
            if caller is not None and caller.restriction is not None:
                check_request(method, request, caller.restriction)
            return request

        return parse_checked

    def _role_of(self, method: str) -> str | None:
        if method.startswith(_HEALTH):
            return self._settings.health
        if method.startswith(_REFLECTION):
            return self._settings.reflection
        return role_of(method)


def open_access(settings: RolesSettings) -> Access | None:
    """None: everybody may call everything. Raises NotReady for files that cannot be used."""
    if not settings.is_on:
        return None
    nobody = Callers()
    watched = (
        None
        if settings.callers_file is None
        else Watched("the callers", [settings.callers_file], read_callers)
    )
    return Access(
        Identify(
            lambda: nobody if watched is None else watched.current,
            frozenset(settings.forwarded_by),
            _open_jwt(settings),
        ),
        settings,
    )


def _open_jwt(settings: RolesSettings) -> ReadJwt | None:
    if settings.jwks_file is None:
        return None
    try:
        from libs.rpc.security.jwt import JwtTokens  # only where it is used: it brings a library
    except ModuleNotFoundError as error:
        raise NotReady(f"a JWKS file needs the package {error.name}: pip install pyjwt") from error
    return JwtTokens(settings.jwks_file, settings.jwt_issuer, settings.jwt_audience).read


def _checked_again(parse: Parse) -> Parse:
    def parse_again(data: bytes) -> Any:
        again = _again.get()
        if again is not None:
            again()
        return parse(data)

    return parse_again


def _log_operation(method: str, request: Any) -> None:
    caller = _caller.get()
    _LOGGER.info(
        "operator's call",
        caller=None if caller is None else caller.name,
        method=method.removeprefix("/"),
        request=_describe(request),
    )


def _describe(request: Any) -> str:
    """A request in a line; of a long one only its size."""
    if request is None:
        return "a stream"
    if (size := request.ByteSize()) > _MOST_LOGGED:
        return f"{size:,} bytes"
    return MessageToString(request, as_one_line=True)
