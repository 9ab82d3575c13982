"""What is made of the asynchronous client is up to date."""

from services import client_namespaces, client_stub


def test_the_client_has_a_namespace_for_each_service_that_users_call() -> None:
    assert client_namespaces.PAGE.read_text() == client_namespaces.client_namespaces(), "make docs"


def test_the_types_of_the_client_for_threads_are_those_of_the_asynchronous_one() -> None:
    assert client_stub.PAGE.read_text() == client_stub.client_stub(), "make docs"
