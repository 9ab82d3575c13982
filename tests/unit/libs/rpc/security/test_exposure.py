"""Which servers start without TLS and roles."""

import pytest

from libs.rpc.security.exposure import check_exposure
from tally.contract.errors import NotReady

LOCAL = ["127.0.0.1:50051", "127.8.0.1:1", "localhost:50051", "[::1]:50051", "unix:/run/tally.sock"]
OTHERS = ["0.0.0.0:50051", "[::]:50051", "10.1.2.3:50051", "tally.example:50051"]


@pytest.mark.parametrize("address", LOCAL)
def test_on_this_machine_everything_is_open(address: str) -> None:
    check_exposure(address, has_tls=False, has_roles=False, is_open=False)


@pytest.mark.parametrize("address", OTHERS)
def test_elsewhere_a_server_needs_tls_and_roles_or_the_word_of_the_operator(address: str) -> None:
    check_exposure(address, has_tls=True, has_roles=True, is_open=False)
    check_exposure(address, has_tls=False, has_roles=False, is_open=True)
    with pytest.raises(
        NotReady, match=r"TLS__CERTIFICATE_FILE.*ROLES__CALLERS_FILE.*TALLY_SERVER__OPEN=true"
    ):
        check_exposure(address, has_tls=False, has_roles=False, is_open=False)
    with pytest.raises(NotReady, match="without TLS"):
        check_exposure(address, has_tls=False, has_roles=True, is_open=False)
    with pytest.raises(NotReady, match="without roles"):
        check_exposure(address, has_tls=True, has_roles=False, is_open=False)
