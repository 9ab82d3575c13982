"""A sender whose transport does as a test says, by a clock that stands still."""

from uuid import UUID

from tally.client import Columns, Event, Receipt
from tally.client._delivery.sending import LONGEST_PATIENCE_S, Delivery, Limits, Sender
from tally.client.request_id import RequestIds
from tests.unit.tally.transport import Transport

ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
COLUMNS = Columns.of([Event("a"), Event("b")])
FOR_EVER = Limits(patience_s=LONGEST_PATIENCE_S, attempt_s=20.0)


class Case:
    """A sender with its transport, by a clock of its own that stands still."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.ids = RequestIds(now_us=lambda: NOW_US)
        self.sender = Sender(self.transport, self.ids)
        self.delivery = Delivery()

    async def send(self, limits: Limits = FOR_EVER, request_id: str | None = None) -> Receipt:
        return await self.sender.send(COLUMNS, limits, self.delivery, request_id=request_id)

    @property
    def sent_ids(self) -> list[str]:
        return [sent.request_id for sent in self.transport.sent]


def time_us_of(request_id: str) -> int:
    return (UUID(request_id).int >> 80) * 1000
