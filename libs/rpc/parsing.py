"""Requests that do not parse: gRPC would take it for a fault of the server, and it is the caller's."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from libs.domain.errors import InvalidRequest, Violation
from libs.rpc.look import Look

Parse = Callable[[bytes], Any]


def make_parse(parse: Parse, look: Look) -> Parse:
    """Look at the bytes first, then parse them. Raises InvalidRequest."""

    def look_and_parse(data: bytes) -> Any:
        look(data)
        try:
            return parse(data)
        except DecodeError as error:
            raise InvalidRequest(
                [Violation("request", f"not a well-formed message, or a string in it is not UTF-8 ({error})")]
            ) from error

    return look_and_parse
