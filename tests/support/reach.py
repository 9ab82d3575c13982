"""How tests reach servers: in the clear, or with TLS and roles (`make test-tls`, `make faults TLS=1`).

In the second case the services that tests start have certificates and a file of callers. Clients and channels from here
show the certificate of a service, which may call everything; commands show that of the operator.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import grpc

from libs.rpc.security.access import RolesSettings
from libs.rpc.security.tls import NO_TLS, ChannelTlsSettings, ServerTlsSettings
from services.devcluster.certificates import FRONT, Certificates, make_certificates
from tally.client import Client, Tls

_ASKED = "TLS"
_FOLDER = "TLS_FOLDER"
"""for processes that a test starts, which reach the same servers"""


@cache
def certificates() -> Certificates | None:
    """Those of this run; None: it is in the clear."""
    if not os.environ.get(_ASKED):
        return None
    if folder := os.environ.get(_FOLDER):
        return Certificates(Path(folder))
    folder = tempfile.mkdtemp(prefix="tally-tls-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[_FOLDER] = folder
    return make_certificates(Path(folder))


def open_client(address: str, **options: Any) -> Client:
    """A client with the options of `Client`."""
    return Client(address, **{"tls": client_tls(), **options})


def client_tls() -> Tls | None:
    """What `Client` takes as `tls`."""
    found = certificates()
    return None if found is None else Tls(found.ca, found.certificate("service"), found.key("service"))


def open_channel(address: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Channel:
    """A channel of gRPC's."""
    credentials = _credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)


def open_blocking_channel(address: str) -> grpc.Channel:
    """The same without asyncio."""
    credentials = _credentials()
    return (
        grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    )


def channel_tls() -> ChannelTlsSettings:
    """How Tally's own code calls a server."""
    found = certificates()
    return NO_TLS if found is None else found.of_services


def server_settings() -> dict[str, Any]:
    """What the settings of a server need besides."""
    found = certificates()
    if found is None:
        return {}
    return {
        "tls": ServerTlsSettings(
            certificate_file=found.certificate("service"),
            key_file=found.key("service"),
            client_ca_file=found.ca,
        ),
        "roles": RolesSettings(callers_file=found.callers, forwarded_by=(FRONT,)),
    }


def variables() -> dict[str, str]:
    """The environment of a service or a command."""
    found = certificates()
    return {} if found is None else {**found.environment(), **found.environment_of_operator()}


def cluster_options(data_dir: Path) -> tuple[str, ...]:
    """The options of `tally cluster` and `tally regions up`, whose certificates are those of this run."""
    found = certificates()
    if found is None:
        return ()
    shutil.copytree(found.folder, data_dir / "certificates", dirs_exist_ok=True)
    return ("--tls",)


def _credentials() -> grpc.ChannelCredentials | None:
    tls = client_tls()
    return None if tls is None else tls.load()
