"""Requests that do not parse: gRPC would take it for a fault of the server, and it is the caller's."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from libs.domain.errors import InvalidRequest, Violation

Parse = Callable[[bytes], Any]


class Malformed:
    """Stands for a request that does not parse, until there is a call to refuse."""

    def __init__(self, error: InvalidRequest) -> None:
        self.error = error


def _invalid(error: DecodeError) -> InvalidRequest:
    return InvalidRequest(
        [Violation("request", f"not a well-formed message, or a string in it is not UTF-8 ({error})")]
    )


def parse_or_return(parse: Parse | None) -> Parse | None:
    """gRPC parses the one request before the handler's layer begins, so what is wrong is handed in."""
    if parse is None:
        return None

    def attempt(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            return Malformed(_invalid(error))

    return attempt


def parse_or_raise(parse: Parse | None) -> Parse | None:
    """gRPC parses the requests of a stream when the handler reads them, so what is wrong is raised there."""
    if parse is None:
        return None

    def attempt(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            raise _invalid(error) from error

    return attempt
