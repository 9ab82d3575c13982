"""What a client shows of its caller, and where it does not."""

import pytest

from tally.client import Client, ClientUnusable, InvalidRequest, Tls
from tally.client._calls.access import Access
from tally.client.blocking import Client as BlockingClient

SECRET = "a-secret-token"  # noqa: S105 - made up


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "localhost:1", "[::1]:1", "unix:/run/tally.sock"])
def test_a_token_goes_to_this_machine_without_tls(address: str) -> None:
    assert Access.of(address, None, None, SECRET).metadata == (("authorization", f"Bearer {SECRET}"),)


@pytest.mark.parametrize("address", ["tally.example:50051", "10.0.0.1:1", "dns:///tally.example:1"])
def test_a_token_goes_nowhere_else_without_tls(address: str) -> None:
    with pytest.raises(ClientUnusable, match="without TLS") as caught:
        Client(address, token=SECRET)
    assert SECRET not in str(caught.value)
    Client(address, token=SECRET, tls=Tls())


def test_a_connection_to_another_address_is_checked_again() -> None:
    """As in direct mode, whose addresses a server names."""
    access = Access.of("127.0.0.1:1", None, None, SECRET)
    with pytest.raises(ClientUnusable):
        access.check("10.0.0.1:1")


@pytest.mark.parametrize("token", ["two lines\n", "a b", "ümlaut", "x" * 9_000])
def test_what_is_no_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Client("127.0.0.1:1", token=token)
    assert token not in str(caught.value)


def test_no_repr_tells_a_token() -> None:
    clients = [Client("127.0.0.1:1", token=SECRET), BlockingClient("127.0.0.1:1", token=SECRET)]
    for client in clients:
        assert SECRET not in repr(client)
        for value in vars(client).values():
            assert SECRET not in repr(value)


def test_files_that_cannot_be_read_are_named() -> None:
    with pytest.raises(ClientUnusable, match=r"cannot read missing\.pem"):
        Client("127.0.0.1:1", tls=Tls(ca="missing.pem"))
    with pytest.raises(ClientUnusable, match="go together"):
        Client("127.0.0.1:1", tls=Tls(certificate="missing.pem"))
