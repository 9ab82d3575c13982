"""The folder of certificates: made once, and renewed by the same authority."""

import stat
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from libs.rpc.security.callers import read_callers
from services.devcluster.certificates import FRONT, OPERATOR, SERVICE, find_certificates, make_certificates
from tally.contract.errors import NotReady


def test_keys_are_private_and_names_are_those_of_the_callers(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    for path in made.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    callers = read_callers([made.callers.read_bytes()])
    assert set(callers.by_certificate) == {SERVICE, OPERATOR}  # the proxy stands for nobody
    assert FRONT not in callers.by_certificate


def test_a_second_time_renews_all_but_the_authority_and_the_callers(tmp_path: Path) -> None:
    first = make_certificates(tmp_path)
    ca, service = first.ca.read_bytes(), first.certificate("service").read_bytes()
    first.callers.write_text("# mine\n")
    again = make_certificates(tmp_path, hosts=["tally.example"])
    assert again.ca.read_bytes() == ca
    renewed = again.certificate("service").read_bytes()
    assert renewed != service
    assert again.callers.read_text() == "# mine\n"
    issuer = load_pem_x509_certificate(ca)
    load_pem_x509_certificate(renewed).verify_directly_issued_by(issuer)
    assert find_certificates(tmp_path).certificate("service").read_bytes() == renewed


def test_an_authority_without_its_key_is_not_replaced(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    made.key("ca").unlink()
    with pytest.raises(NotReady, match="cannot use the authority"):
        make_certificates(tmp_path)
