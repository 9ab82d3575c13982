"""How a client makes sure that it speaks to Tally, and what it shows of itself."""

import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from tally.client.errors import ClientUnusable

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS, with files in PEM. `Tls()` trusts the authorities that gRPC brings with it."""

    ca: PathLike | None = None
    """the authorities of the servers' certificates"""
    certificate: PathLike | None = None
    """the client's own, with its chain, where the service knows callers by their certificates"""
    key: PathLike | None = None
    """the private key of the certificate"""
    server_name: str | None = None
    """the name that the server's certificate must have; None: that of the address"""

    def load(self) -> grpc.ChannelCredentials:
        """Read the files. Raises ClientUnusable."""
        if (self.certificate is None) is not (self.key is None):
            raise _unusable("a certificate and its key go together")
        ca, certificate, key = (
            None if path is None else _read(path) for path in (self.ca, self.certificate, self.key)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


def _read(path: PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unusable(f"cannot read {os.fspath(path)}: {error.strerror}") from None


def _unusable(message: str) -> ClientUnusable:
    return ClientUnusable(message, reason="CERTIFICATES_UNUSABLE")
