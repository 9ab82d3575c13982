"""Calls to the services, and their errors as messages for a terminal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.cli.terminal.connecting import client_options
from services.cli.terminal.failure import REFUSED, UNKNOWN, Failure
from tally.client import (
    Client,
    DeadlineExceeded,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    TallyError,
    Unavailable,
)

T = TypeVar("T")


def call(address: str, work: Callable[[Client], Awaitable[T]]) -> T:
    """What `work` returns with a client of the services at `address`. Raises Failure."""

    async def run() -> T:
        async with Client(address, **client_options()) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except TallyError as error:
        raise explain(error, address) from error


def explain(error: TallyError, address: str) -> Failure:
    """The same for the user of a command, with the option that helps."""
    message = describe(error, address)
    if not is_unsettled(error):
        return Failure(message, REFUSED)
    if error.request_id:
        message += f" To be sure that it counts once, run the same again with --request-id {error.request_id}"
    return Failure(message, UNKNOWN)


def describe(error: TallyError, address: str) -> str:
    """What is wrong, in a sentence or two."""
    if error.unreachable == address:
        return f"nothing answers at {address}; start it with `make run` or `tally up`, or name the right --address."
    return error.message


def is_unsettled(error: TallyError) -> bool:
    """Whether the service has not said what becomes of the call: the same may be sent again, under the same id."""
    if isinstance(error, Overloaded):  # a part of a write may have been counted, a read is just refused
        return bool(error.request_ids)
    return isinstance(error, OutcomeUnknown | NotSent | Unavailable | DeadlineExceeded)
