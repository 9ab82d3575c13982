"""The client's certificate as a proxy forwards it: the header `x-forwarded-client-cert` of Envoy.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
"""

import re

HEADER = "x-forwarded-client-cert"

# One element, as Envoy writes it with SANITIZE_SET and the subject: what has another form is nobody's.
_ELEMENT = re.compile(r'(?:By=[^;,"]*;)?Hash=[0-9a-f]+;Subject="([^"\\+;]*)"')
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@:/-]{0,127}")


def read_name(header: str) -> str | None:
    """The common name of the certificate; None where there is none that is beyond doubt."""
    element = _ELEMENT.fullmatch(header)
    if element is None:
        return None
    names = [part.removeprefix("CN=") for part in element[1].split(",") if part.startswith("CN=")]
    return names[0] if len(names) == 1 and _NAME.fullmatch(names[0]) else None
