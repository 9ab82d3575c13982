"""Certificates for tests: an authority, and files of what it issues."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from libs.rpc.security.authority import Authority
from libs.rpc.security.tls import ChannelTlsSettings, Pair, ServerTlsSettings

HOSTS = ("localhost", "127.0.0.1")
_LATER = datetime.now(UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Files:
    """An authority, and a folder for what it issues."""

    folder: Path
    authority: Authority

    @property
    def ca(self) -> Path:
        return self.write("ca.pem", self.authority.pair.certificate)

    def issue(self, name: str, *, until: datetime = _LATER) -> tuple[Path, Path]:
        """A certificate with this name, and its key."""
        return self.write_pair(name, self.authority.issue(name, HOSTS, until=until))

    def write_pair(self, name: str, pair: Pair) -> tuple[Path, Path]:
        return self.write(f"{name}.pem", pair.certificate), self.write(f"{name}.key", pair.key)

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def server(self, name: str = "server", *, asks_for_certificates: bool = True) -> ServerTlsSettings:
        certificate, key = self.issue(name)
        return ServerTlsSettings(
            certificate_file=certificate,
            key_file=key,
            client_ca_file=self.ca if asks_for_certificates else None,
        )

    def channel(self, name: str, *, until: datetime = _LATER) -> ChannelTlsSettings:
        certificate, key = self.issue(name, until=until)
        return ChannelTlsSettings(ca_file=self.ca, certificate_file=certificate, key_file=key)


def make_files(folder: Path, name: str = "an authority") -> Files:
    folder.mkdir(exist_ok=True)
    return Files(folder, Authority.make(name, days=1))
