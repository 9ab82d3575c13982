"""Which addresses may be called (T002-39)."""

import pytest

from libs.egress.guard import is_allowed

PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # a cloud's metadata service
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - as a target it is this machine
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::1",
    "not an address",
    "",
]
LOOPBACK = ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called_but_not_in_a_simulation(address: str) -> None:
    assert is_allowed(address, simulated=False)
    assert not is_allowed(address, simulated=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_may_never_be_called(address: str) -> None:
    assert not is_allowed(address, simulated=False)
    assert not is_allowed(address, simulated=True)


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_may_be_called_in_a_simulation_alone(address: str) -> None:
    assert not is_allowed(address, simulated=False)
    assert is_allowed(address, simulated=True)
