"""What the calls of a client show of who makes them, and how its channels are secured."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Self

import grpc

from tally.client.errors import ClientUnusable
from tally.client.tls import Tls
from tally.contract.errors import InvalidRequest

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,8000}")


@dataclass(frozen=True, slots=True)
class Access:
    """Of every channel of one client. Its `repr` tells neither token nor key."""

    credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)
    """None: no TLS"""
    metadata: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, address: str, credentials: grpc.ChannelCredentials | None, tls: Tls | None, token: str | None
    ) -> Self:
        """Raises InvalidRequest and ClientUnusable."""
        if tls is not None and credentials is not None:
            raise InvalidRequest.of("tls", "is given together with credentials; one of them is enough")
        options: tuple[tuple[str, str], ...] = ()
        if tls is not None:
            credentials = tls.load()
            if tls.server_name is not None:
                options = (("grpc.ssl_target_name_override", tls.server_name),)
        if not token:
            return cls(credentials, None, options)
        if not _TOKEN.fullmatch(token):
            raise InvalidRequest.of(
                "token", "is not of the form of a token (RFC 6750), such as one with a line end"
            )
        access = cls(credentials, (("authorization", f"Bearer {token}"),), options)
        access.check(address)
        return access

    def check(self, address: str) -> None:
        """Raises ClientUnusable where a token would go over the network as it is."""
        if self.metadata is not None and self.credentials is None and not is_near(address):
            raise ClientUnusable(
                f"the token would be sent to {address} without TLS, for everybody on the way to read: give `tls` "
                "(on the command line: --ca)",
                reason="TLS_MISSING",
            )


def is_loopback(address: str) -> bool:
    """Whether `host:port` is an address that only this machine has."""
    host = address.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_near(address: str) -> bool:
    """Whether the address is this machine's own: of loopback, or a unix socket."""
    return address.startswith("unix:") or is_loopback(address)
