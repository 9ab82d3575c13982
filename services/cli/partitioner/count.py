"""`tally count`."""

from itertools import repeat

from services.cli.terminal.calling import call
from tally.client import Client, Event, Receipt


def count(address: str, video_id: str, event_type: str, times: int, request_id: str | None) -> str:
    """Count events of now, in one request; says what became of them. Raises Failure."""

    async def send(client: Client) -> Receipt:
        if times == 1:
            # An id of its own makes it a call of its own, which fails at once where nothing answers.
            own_id = request_id or client.make_request_id()
            return await client.count(video_id, event_type, request_id=own_id)
        return await client.process_many(repeat(Event(video_id, event_type), times), request_id=request_id)

    receipt = call(address, send)
    said = f"counted {receipt.accepted_count} {event_type} of {video_id}"
    if receipt.duplicate_count:
        said += f"; {receipt.duplicate_count} had been counted before under this request id"
    return said
