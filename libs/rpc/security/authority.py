"""A certificate authority of one's own, for a cluster on one machine, for trying out and for tests."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libs.rpc.security.tls import Pair

_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates that everybody accepts who trusts its own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def make(cls, name: str, days: int) -> Self:
        """A new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        until = datetime.now(UTC) + timedelta(days=days)
        builder = _begin(subject, subject, key, until).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = _usage(signs_certificates=True)
        return cls(builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, pair: Pair) -> Self:
        """One that was made before. Raises ValueError."""
        key = serialization.load_pem_private_key(pair.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key of the authority is not of the kind that is made here")
        return cls(x509.load_pem_x509_certificate(pair.certificate), key)

    @property
    def pair(self) -> Pair:
        """In PEM."""
        return Pair(_pem(self.certificate), _pem_of_key(self.key))

    def issue(self, name: str, hosts: Sequence[str], *, until: datetime) -> Pair:
        """A certificate for a server at these hosts (names or IP addresses), and for a client with this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _begin(_name(name), self.certificate.subject, key, until)
        alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(alternatives, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Pair(_pem(certificate), _pem_of_key(key))


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), until) - _CLOCK_SKEW)
        .not_valid_after(until)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
