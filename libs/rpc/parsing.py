"""Unparsable requests: gRPC would report an error of the server, but the caller's request is invalid."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from libs.rpc.look import Look
from tally.contract.errors import InvalidRequest, Violation

Parse = Callable[[bytes], Any]


def make_parse(parse: Parse | None, look: Look) -> Parse:
    """Look at the bytes first, then parse them; None: they are the request. Raises InvalidRequest."""

    def look_and_parse(data: bytes) -> Any:
        look(data)
        try:
            return data if parse is None else parse(data)
        except DecodeError as error:
            raise InvalidRequest(
                [Violation("request", f"not a well-formed message, or a string in it is not UTF-8 ({error})")]
            ) from error

    return look_and_parse
