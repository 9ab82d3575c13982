"""TLS on both sides: certificates from files, which may be renewed while a server runs and while channels are open."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc
from pydantic import BaseModel, Field, model_validator

from libs.rpc.security.watched import Watched

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def _check_pair(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) is not (key is None):
        raise ValueError("certificate_file and key_file are set together")


class ServerTlsSettings(BaseModel, frozen=True, extra="forbid"):
    """The certificate of a server, and whose certificates it accepts."""

    certificate_file: Path | None = Field(
        None, description="PEM file with the server's certificate and its chain; unset: no TLS"
    )
    key_file: Path | None = Field(None, description="PEM file with the private key of the certificate")
    client_ca_file: Path | None = Field(
        None,
        description="PEM file with the authorities of the clients' certificates; set: only clients with such a "
        "certificate can connect",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        _check_pair(self.certificate_file, self.key_file)
        if self.client_ca_file is not None and self.certificate_file is None:
            raise ValueError("client_ca_file needs certificate_file and key_file")
        return self

    @property
    def is_on(self) -> bool:
        """Whether connections are encrypted."""
        return self.certificate_file is not None


class ChannelTlsSettings(BaseModel, frozen=True, extra="forbid"):
    """How a service makes sure whom it calls, and what it shows of itself."""

    ca_file: Path | None = Field(
        None, description="PEM file with the authorities of the servers' certificates; unset: no TLS"
    )
    certificate_file: Path | None = Field(
        None, description="PEM file with the certificate that is shown to servers, and its chain"
    )
    key_file: Path | None = Field(None, description="PEM file with the private key of the certificate")
    server_name: str | None = Field(
        None, description="name that is looked for in the servers' certificates; unset: that of the address"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        _check_pair(self.certificate_file, self.key_file)
        if self.ca_file is None and (self.certificate_file is not None or self.server_name is not None):
            raise ValueError("certificate_file and server_name need ca_file")
        return self

    @property
    def is_on(self) -> bool:
        """Whether connections are encrypted."""
        return self.ca_file is not None


NO_TLS = ChannelTlsSettings()


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain, and its private key, in PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def open_server_credentials(settings: ServerTlsSettings) -> grpc.ServerCredentials:
    """Credentials that show a renewed certificate to every new connection. Raises NotReady for files it cannot use."""
    assert settings.certificate_file is not None and settings.key_file is not None  # noqa: S101, PT018 - for mypy
    paths = [settings.certificate_file, settings.key_file]
    if settings.client_ca_file is not None:
        paths.append(settings.client_ca_file)
    watched = Watched("the server's certificate", paths, _read_server)
    shown = watched.current

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called before each handshake, on a thread of gRPC's; None: nothing has changed."""
        nonlocal shown
        newest = watched.current
        if newest is shown:
            return None
        shown = newest
        return newest

    return grpc.dynamic_ssl_server_credentials(
        shown,
        fetch,  # type: ignore[arg-type]  # the stub does not know that it may return None
        require_client_authentication=settings.client_ca_file is not None,
    )


def watch_channel_credentials(settings: ChannelTlsSettings) -> Watched[grpc.ChannelCredentials]:
    """Credentials of channels, new ones when the files change. Raises NotReady."""
    assert settings.ca_file is not None  # noqa: S101 - for mypy
    paths = [settings.ca_file]
    if settings.certificate_file is not None and settings.key_file is not None:
        paths += [settings.certificate_file, settings.key_file]
    return Watched("the certificates of calls to other services", paths, _read_channel)


def _read_server(contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
    certificate, key, *authorities = contents
    pair = _read_pair(certificate, key)
    if authorities:
        _read_certificates(authorities[0])
    return grpc.ssl_server_certificate_configuration(
        [(pair.key, pair.certificate)], root_certificates=authorities[0] if authorities else None
    )


def _read_channel(contents: Sequence[bytes]) -> grpc.ChannelCredentials:
    authorities, *own = contents
    _read_certificates(authorities)
    if not own:
        return grpc.ssl_channel_credentials(authorities)
    pair = _read_pair(*own)
    return grpc.ssl_channel_credentials(authorities, pair.key, pair.certificate)


def _read_pair(certificate: bytes, key: bytes) -> Pair:
    """Raises ValueError when they do not belong together, as while only one of them is renewed."""
    # Only where TLS is on: it takes megabytes.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("the key must be a private key in PEM, without a password") from None
    if _read_certificates(certificate)[0].public_key() != private.public_key():
        raise ValueError("the key does not belong to the certificate")
    return Pair(certificate, key)


def _read_certificates(pem: bytes) -> list["Certificate"]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("there is no certificate in PEM") from None
