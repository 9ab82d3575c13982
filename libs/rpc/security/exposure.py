"""A server that others than this machine can reach needs TLS and roles, or the word of the operator."""

import ipaddress

from tally.contract.errors import NotReady


def is_local(address: str) -> bool:
    """Whether only this machine can reach `host:port` or `unix:path`."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(address: str, *, has_tls: bool, has_roles: bool, is_open: bool) -> None:
    """Raises NotReady, with the settings that are missing, unless the operator has said that it is open."""
    if is_open or is_local(address) or (has_tls and has_roles):
        return
    missing = []
    if not has_tls:
        missing.append("TALLY_SERVER__TLS__CERTIFICATE_FILE and TALLY_SERVER__TLS__KEY_FILE")
    if not has_roles:
        missing.append("TALLY_SERVER__ROLES__CALLERS_FILE or TALLY_SERVER__ROLES__JWKS_FILE")
    raise NotReady(
        f"{address} can be reached from other machines, and this server would take calls there "
        f"without {'TLS and roles' if len(missing) > 1 else 'roles' if has_tls else 'TLS'}. "
        f"Set {', and '.join(missing)} (docs/security.md; `tally certificates` makes them), "
        "or say with TALLY_SERVER__OPEN=true that everyone who reaches it may do everything"
    )
