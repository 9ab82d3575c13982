"""The process that holds a port, and the error of a server that cannot listen."""

import os
import random
import socket
from contextlib import suppress

import psutil

from tally.contract.errors import NotReady

# Below what Linux gives to outgoing connections (32768 to 60999 unless told otherwise): a port that its server leaves
# for a moment, to be started again, is not taken by one of them.
_CHOICE = range(30_000, 32_768)
LARGEST_PORT = 65_535


def has_port(address: str) -> bool:
    """Whether `host:port` ends with a port that exists. (The C library and gRPC take 70000 for 4464.)"""
    port = address.rpartition(":")[2]
    return port.isascii() and port.isdigit() and int(port) <= LARGEST_PORT


def find_free(count: int, host: str = "127.0.0.1") -> list[int]:
    """So many TCP ports that nothing listens on. Raises NotReady. They begin anywhere, so that two who look at the
    same time rarely find the same."""
    found: list[int] = []
    start = random.randrange(len(_CHOICE))  # noqa: S311 - no secret
    for number in range(len(_CHOICE)):
        port = _CHOICE[(start + number) % len(_CHOICE)]
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            found.append(port)
        if len(found) == count:
            return found
    raise NotReady(f"there are not {count} free ports from {_CHOICE.start} to {_CHOICE.stop - 1}")


def check_free(address: str) -> None:
    """Raise NotReady when another socket listens at `host:port`, with the process that has it.

    gRPC would notice too, but it writes the reason to stderr and raises an error that does not say it. A unix
    socket cannot be checked before: gRPC replaces the socket file of another process.
    """
    if _is_unix(address):
        return
    for family, kind, protocol, _, place in _look_up(address):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(place)
                probe.listen()
            except OSError as error:
                raise explain_taken(address, error) from error


def resolve(address: str) -> str:
    """`ip:port` for `host:port`, the first that the name has, an IPv4 address if it has one. Raises NotReady."""
    port = address.rpartition(":")[2]
    places = sorted(_look_up(address), key=lambda place: place[0] != socket.AF_INET)
    found = str(places[0][4][0])
    return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"


def explain_taken(address: str, error: Exception) -> NotReady:
    """The error that says why nothing can listen at `address`."""
    port = address.rpartition(":")[2]
    holder = None if _is_unix(address) else find_holder(int(port))
    if holder is None:
        return NotReady(f"cannot listen on {address}: {error}")
    return NotReady(
        f"cannot listen on {address}: port {port} is taken by {holder}; stop it, or take another "
        "port: TALLY_SERVER__ADDRESS=127.0.0.1:50052"
    )


def find_holder(port: int) -> str | None:
    """The process that listens on a TCP port of this machine, in words; None when nothing does."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return _describe(connection.pid)
    return None


def _is_unix(address: str) -> bool:
    return address.startswith("unix:")


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a process of another user (root can see which)"
    if pid == os.getpid():
        return f"this process itself (pid {pid})"
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except (psutil.Error, OSError):
        return f"pid {pid}"
    return f"pid {pid} ({command})" if command else f"pid {pid}"


def _look_up(address: str) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    if not has_port(address):
        raise NotReady(f"cannot listen on {address}: a port is at most {LARGEST_PORT}")
    host, _, port = address.rpartition(":")
    try:
        return socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )  # type: ignore[return-value]  # ints are enums here
    except OSError as error:
        raise NotReady(f"cannot listen on {address}: {error}") from error
