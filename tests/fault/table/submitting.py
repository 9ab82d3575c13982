"""The client that gathers: events are handed in one by one, and it makes the requests and sends them again."""

import asyncio
import random
from collections import Counter, defaultdict
from contextlib import suppress

from tally.client import Client, NotSent, OutcomeUnknown, Receipt, TallyError
from tests.fault.table.ledger import Key, Ledger, Request
from tests.fault.table.requests import VALUE_OF, draw_key

_PATIENCE_SECONDS = 60.0

Handed = tuple[Key, "asyncio.Future[Receipt]"]


async def submit_events(
    client: Client,
    ledger: Ledger,
    per_second: float,
    prefix: str,
    chance: random.Random,
    stopping: asyncio.Event,
) -> None:
    """Hand events in until told to stop, and close the client when each has its end; the ledger has them all."""
    handed: list[Handed] = []
    while not stopping.is_set():
        await asyncio.sleep(chance.expovariate(per_second))
        # Those of one request get their receipt at once: here none of it is done, or all.
        note_submitted(ledger, [one for one in handed if one[1].done()])
        handed = [one for one in handed if not one[1].done()]
        key = draw_key(chance, prefix)
        handed.append((key, await client.submit(*key, value=VALUE_OF.get(key[1]))))
    with suppress(TallyError):  # each future has it, too
        await client.close(timeout=_PATIENCE_SECONDS)
    note_submitted(ledger, handed)


def note_submitted(ledger: Ledger, handed: list[Handed]) -> None:
    """Put the requests together again by what the futures say: those events went together that have one receipt.

    What the client says that it never sent is in no request: it must not be counted.
    """
    events: defaultdict[str, Counter[Key]] = defaultdict(Counter)
    receipts: dict[str, Receipt] = {}
    for key, future in handed:
        if (error := future.exception()) is None:
            receipt = future.result()
            receipts[receipt.request_id] = receipt
            events[receipt.request_id][key] += 1
        elif isinstance(error, OutcomeUnknown) and error.request_id:
            events[error.request_id][key] += 1
        elif not isinstance(error, NotSent):
            ledger.wrong.append(f"a sound event that was handed in ended with {error!r}")
    for request_id, counted in events.items():
        request = Request(request_id, counted)
        ledger.send(request)
        if given := receipts.get(request_id):
            ledger.acknowledge(request, given.accepted_count, given.duplicate_count, given.durability)
        else:
            ledger.failures["GIVEN_UP"] += 1
