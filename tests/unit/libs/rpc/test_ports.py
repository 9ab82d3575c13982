"""Addresses whose port does not exist are refused, and not taken for another one."""

import pytest
from pydantic import ValidationError

from libs.rpc import ports
from libs.rpc.server import ServerSettings
from services.partitioner.settings import PartitionerSettings
from tally.contract.errors import NotReady


@pytest.mark.parametrize("address", ["127.0.0.1:70000", "[::1]:65536", "localhost:99999"])
def test_a_port_that_does_not_exist_is_refused_wherever_an_address_is_read(address: str) -> None:
    for look in (ports.check_free, ports.resolve):
        with pytest.raises(NotReady, match="a port is at most 65535"):
            look(address)
    with pytest.raises(ValidationError, match="the largest is 65535"):
        ServerSettings(address=address)
    with pytest.raises(ValidationError, match="the largest is 65535"):
        PartitionerSettings(shards=(address,))
    with pytest.raises(ValidationError, match="the largest is 65535"):
        PartitionerSettings(shards=(f"dns:///{address}",))


@pytest.mark.parametrize("address", ["127.0.0.1:65535", "unix:/run/tally:70000", "[::1]:1"])
def test_ports_that_exist_and_paths_are_taken(address: str) -> None:
    assert ServerSettings(address=address).address == address
    assert PartitionerSettings(shards=(address,)).shards == (address,)
