"""Certificates in a folder, for a cluster on one machine or for trying out: an authority, and what it issues.

In the folder: `ca` (the authority), `service` (every Tally service, as server and as client), `front` (the front proxy)
and `operator` (a person at the command line), each as a certificate `.pem` and a key `.key`; and `callers.toml`, which
says what those names may do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from libs.embedded.envoy_config import ProxyTls
from libs.embedded.files import write_new
from libs.rpc.security.tls import ChannelTlsSettings, Pair
from tally.contract.errors import NotReady

if TYPE_CHECKING:
    from libs.rpc.security.authority import Authority

SERVICE, FRONT, OPERATOR = "tally-service", "tally-front", "tally-operator"
"""the names in the certificates"""
HOST = "tally"
"""a host that every service's certificate has, for clients that reach it by a changing address"""
HOSTS = ("localhost", "127.0.0.1", "::1", HOST)
DAYS = 365
_DAYS_OF_AUTHORITY = 3_650

_CALLERS = f"""# Who may call, and what: docs/security.md. Servers read this file again when it changes.

[[caller]]
name = "Tally's services"
certificate = "{SERVICE}"
roles = ["internal", "write", "operate"]

[[caller]]
name = "operator"
certificate = "{OPERATOR}"
roles = ["operate", "write", "read"]

# An application with a token: `tally token` makes one, and prints what to write here.
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of a folder."""

    folder: Path

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    @property
    def ca(self) -> Path:
        return self.certificate("ca")

    @property
    def callers(self) -> Path:
        return self.folder / "callers.toml"

    @property
    def of_services(self) -> ChannelTlsSettings:
        """How a service calls another one."""
        return ChannelTlsSettings(
            ca_file=self.ca,
            certificate_file=self.certificate("service"),
            key_file=self.key("service"),
        )

    @property
    def of_proxy(self) -> ProxyTls:
        """How the front proxy is called, and calls services."""
        return ProxyTls(str(self.ca), str(self.certificate("front")), str(self.key("front")), HOST)

    def environment(self) -> dict[str, str]:
        """The variables of a service with TLS and roles."""
        return {
            "TALLY_SERVER__TLS__CERTIFICATE_FILE": str(self.certificate("service")),
            "TALLY_SERVER__TLS__KEY_FILE": str(self.key("service")),
            "TALLY_SERVER__TLS__CLIENT_CA_FILE": str(self.ca),
            "TALLY_SERVER__ROLES__CALLERS_FILE": str(self.callers),
            "TALLY_SERVER__ROLES__FORWARDED_BY": f'["{FRONT}"]',
            "TALLY_CALLS__TLS__CA_FILE": str(self.ca),
            "TALLY_CALLS__TLS__CERTIFICATE_FILE": str(self.certificate("service")),
            "TALLY_CALLS__TLS__KEY_FILE": str(self.key("service")),
        }

    def environment_of_operator(self) -> dict[str, str]:
        """The variables with which `tally` is the operator."""
        return {
            "TALLY_CA": str(self.ca),
            "TALLY_CERTIFICATE": str(self.certificate("operator")),
            "TALLY_KEY": str(self.key("operator")),
        }


def make_certificates(folder: Path, hosts: Sequence[str] = (), days: int = DAYS) -> Certificates:
    """Make what is missing, and new certificates by the authority that is there; `hosts` besides those of this machine.

    The file of callers is left as it is. Raises NotReady when the authority that is there cannot be read.
    """
    made = Certificates(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _open_authority(made)
    until = datetime.now(UTC) + timedelta(days=days)
    for file, name in (("service", SERVICE), ("front", FRONT), ("operator", OPERATOR)):
        _write(made, file, authority.issue(name, [*HOSTS, *hosts], until=until))
    if not made.callers.exists():
        write_new(made.callers, _CALLERS)
    return made


def find_certificates(folder: Path) -> Certificates:
    """Those of the folder; made where there are none."""
    found = Certificates(folder)
    return found if found.ca.exists() and found.callers.exists() else make_certificates(folder)


def _open_authority(made: Certificates) -> "Authority":
    from libs.rpc.security.authority import Authority  # it takes megabytes

    if not made.ca.exists():
        authority = Authority.make("Tally's own authority", _DAYS_OF_AUTHORITY)
        _write(made, "ca", authority.pair)
        return authority
    try:
        return Authority.load(Pair(made.ca.read_bytes(), made.key("ca").read_bytes()))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotReady(f"cannot use the authority in {made.folder}: {reason}. Name another folder") from None


def _write(made: Certificates, file: str, pair: Pair) -> None:
    """The key first: a server that sees the one without the other goes on with both old ones."""
    write_new(made.key(file), pair.key.decode())
    write_new(made.certificate(file), pair.certificate.decode())
