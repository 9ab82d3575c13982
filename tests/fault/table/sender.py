"""A client in a process of its own, to be killed: the library buffers its events, and it keeps a ledger file.

    python -m tests.fault.table.sender LEDGER ADDRESS PREFIX SEED

It notes an event before it hands it in, a batch before the library sends it for the first time, and its receipt.
Started again on the same ledger it first sends what has no receipt, the same bytes under the same ids; what only lay in
the buffer of the library is lost. It ends in order on SIGTERM, when everything has a receipt.
"""

import asyncio
import random
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import get_args

from tally.client import Batch, Batching, Client, Receipt, TallyError
from tally.client._delivery.transport import Transport, TransportName
from tests.fault.table.ledger import LedgerFile, read_ledger
from tests.fault.table.requests import VALUE_OF, draw_key
from tests.support.reach import open_client

_BATCHING = Batching(max_events=10, max_in_flight=2, max_buffered_events=60)
_LINE_SECONDS = 0.1
_CALL_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
_PATIENCE_SECONDS = 50.0


class NotedLine:
    """A transport that writes down what it sends. It is slow, so that there is always something in the buffer."""

    def __init__(self, transport: Transport, ledger: LedgerFile, noted: Iterable[str]) -> None:
        """`noted`: the ids that are in the ledger already."""
        self._transport = transport
        self._ledger = ledger
        self._noted = set(noted)

    async def send(self, batch: Batch, timeout_s: float) -> Receipt:
        await asyncio.sleep(_LINE_SECONDS)
        if batch.request_id not in self._noted:
            self._noted.add(batch.request_id)
            self._ledger.send(batch)
        receipt = await self._transport.send(batch, timeout_s)
        self._ledger.acknowledge(receipt)
        return receipt

    async def close(self, patience_s: float) -> None:
        await self._transport.close(patience_s)


async def send_again(client: Client, ledger: LedgerFile, batch: Batch) -> None:
    """Until there is a receipt."""
    while True:
        try:
            await client.process_many(batch.columns, request_id=batch.request_id, timeout=_CALL_SECONDS)
        except TallyError as error:
            ledger.fail(error.reason)
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


async def hand_in(
    client: Client, ledger: LedgerFile, prefix: str, chance: random.Random, stopping: asyncio.Event
) -> None:
    """As many events as the buffer takes, until told to stop."""
    while not stopping.is_set():
        key = draw_key(chance, prefix)
        ledger.offer(key)
        await client.submit(*key, value=VALUE_OF.get(key[1]))


async def main(path: Path, address: str, prefix: str, seed: int) -> None:
    kept = read_ledger(path)
    ledger = LedgerFile(path)
    ledger.begin()
    chance = random.Random(seed)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    transport: TransportName = chance.choice(get_args(TransportName))
    async with open_client(address, transport=transport, batching=_BATCHING) as client:
        sender = client._sender
        sender._transport = NotedLine(sender._transport, ledger, kept.batches)
        async with asyncio.TaskGroup() as tasks:
            for batch in kept.unanswered:
                tasks.create_task(send_again(client, ledger, batch))
            tasks.create_task(hand_in(client, ledger, prefix, chance, stopping))
        with suppress(TallyError):  # of events without a receipt, and the ledger has none either
            await client.close(timeout=_PATIENCE_SECONDS)
    ledger.close()


if __name__ == "__main__":
    _, path, address, prefix, seed = sys.argv
    asyncio.run(main(Path(path), address, prefix, int(seed)))
