"""The interface of transports, which send a batch to the service.

    sender ──► Transport ─┬─ unary: ProcessEvents, a call for each batch
                          ├─ stream: StreamEvents, all batches on one call
                          └─ direct: Append, a call for each shard of each batch

A transport makes one attempt. Whether, when and under which id another one follows is for the sender to say, so
a transport has no retries of its own that could hide an attempt without an answer, and keeps no batch for later.
"""

from typing import Literal, Protocol

from tally.client._calls.connection import Connection
from tally.client._delivery.stream import StreamTransport
from tally.client._delivery.unary import UnaryTransport
from tally.client.answers import Receipt
from tally.client.columns import Batch
from tally.client.errors import ClientUnusable

TransportName = Literal["unary", "stream", "direct"]


class Transport(Protocol):
    """Sends batches, any number at once, within one event loop."""

    async def send(self, batch: Batch, timeout_s: float) -> Receipt:
        """Make one attempt: `batch.payload` as it is, or what follows from `batch.columns` alone.

        Raises, besides ClientUnusable when nothing could be sent:
        - OutcomeUnknown: no answer, so the batch may have been counted, or a part of it;
        - Overloaded: a part may have been counted, unless it says `counted_nothing`; `retry_after_s` is the delay
          that the service asks for;
        - OutOfRange, InvalidRequest and every other TallyError: this attempt counted nothing. `violations` names
          what is wrong by its path in the request: `columns.video_ids[3]`, `request_id`.

        A cancelled attempt is one without an answer.
        """
        ...

    async def close(self, patience_s: float) -> None:
        """Wait for what is under way, then end it, as without an answer. The connection is its owner's."""
        ...


def check_transport(name: TransportName) -> None:
    """Raise ClientUnusable when a package that it needs is not installed."""
    if name == "direct":
        try:
            import tally.client._delivery.direct  # noqa: F401 - here, as the others do without its package
        except ModuleNotFoundError as error:
            raise ClientUnusable(
                f"direct mode needs the package {error.name}: pip install {error.name}",
                reason="PACKAGE_MISSING",
            ) from error


def open_transport(name: TransportName, connection: Connection) -> Transport:
    """The transport of that name. Raises as `check_transport` does."""
    check_transport(name)
    if name == "direct":
        from tally.client._delivery.direct import DirectTransport

        return DirectTransport(connection)
    return StreamTransport(connection) if name == "stream" else UnaryTransport(connection)
