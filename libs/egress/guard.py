"""The egress guard: https to public addresses, or nothing but this machine."""

import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import ClientRequest, ClientTimeout, TCPConnector

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

# https://www.iana.org/assignments/iana-ipv6-special-registry: the last 32 bits are an IPv4 address.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class EgressRefused(Exception):
    """The call would go to an address, or by a protocol, that is not allowed. Nothing was sent."""


def is_allowed(address: str, *, simulated: bool) -> bool:
    """Whether an IP address may be called: public ones, or with `simulated` those of this machine alone."""
    try:
        inner = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if simulated:
        return inner.is_loopback
    return inner.is_global and not inner.is_multicast


def _innermost(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


class GuardedConnector(TCPConnector):
    """Makes connections that the guard allows, those after a redirect too. Raises EgressRefused for others."""

    def __init__(self, *, simulated: bool, connections_per_host: int) -> None:
        self._simulated = simulated
        super().__init__(
            limit=0,
            limit_per_host=connections_per_host,
            socket_factory=self._make_socket,
            happy_eyeballs_delay=None,  # it would hide why a connection was refused
        )

    async def connect(
        self,
        req: ClientRequest,
        traces: "Sequence[Trace]",
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's
    ) -> "Connection":
        """A connection for a request. Raises EgressRefused for a scheme that is not allowed."""
        scheme = req.url.scheme
        if scheme != "https" and not (self._simulated and scheme == "http"):
            raise EgressRefused(f"{req.url.origin()} is not https")
        return await super().connect(req, list(traces), timeout)

    def _make_socket(self, found: Any) -> socket.socket:
        """A socket for an address of `getaddrinfo`: here the address is the one that is connected to."""
        family, kind, protocol, _, target = found
        if not is_allowed(str(target[0]), simulated=self._simulated):
            allowed = "an address of this machine" if self._simulated else "a public address"
            raise EgressRefused(f"{target[0]} is not {allowed}")
        return socket.socket(family, kind, protocol)
