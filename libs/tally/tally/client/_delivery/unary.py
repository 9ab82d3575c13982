"""A call for each batch."""

from tally.client._calls import methods
from tally.client._calls.connection import Connection
from tally.client.answers import Receipt
from tally.client.columns import Batch


class UnaryTransport:
    """Sends each batch by ProcessEvents; see tally.client._delivery.transport."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, batch: Batch, timeout_s: float) -> Receipt:
        answer = await self._connection.attempt(
            methods.PROCESS_EVENTS, batch.payload, timeout_s, request_id=batch.request_id
        )
        return Receipt.from_message(answer.receipt)

    async def close(self, patience_s: float) -> None:  # noqa: ARG002 - the calls end with the connection
        return
