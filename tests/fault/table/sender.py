"""A client in a process of its own, to be killed: it buffers events, sends them in requests, and keeps a ledger file.

    python -m tests.fault.table.sender LEDGER ADDRESS PREFIX SEED

It notes an event when it takes it into its buffer, a request before it sends it, and its receipt. Started again on the
same ledger it first sends what has no receipt, under the same ids; what only lay in the buffer is lost. It ends in
order on SIGTERM, when everything has a receipt.
"""

import asyncio
import random
import signal
import sys
from collections import Counter
from pathlib import Path

from tally.client import Client, TallyError
from tests.fault.table.ledger import Key, LedgerFile, Request, read_ledger
from tests.fault.table.requests import columns_of, draw_key, new_id

_EVENTS_PER_SECOND = 150.0
_LINGER_SECONDS = 0.2
_CALL_SECONDS = 5.0
_PAUSE_SECONDS = 0.2


class Sender:
    """Events wait in a buffer for the next request."""

    def __init__(self, client: Client, ledger: LedgerFile, prefix: str, chance: random.Random) -> None:
        self._client = client
        self._ledger = ledger
        self._prefix = prefix
        self._chance = chance
        self._buffer: list[Key] = []
        self._offered = 0
        self.stopping = asyncio.Event()

    async def run(self, unanswered: list[Request]) -> None:
        """Send until told to stop, first what an earlier life had sent without an answer."""
        async with asyncio.TaskGroup() as tasks:
            for request in unanswered:
                tasks.create_task(self._send(request))
            offering = tasks.create_task(self._offer())
            while not (offering.done() and not self._buffer):
                await asyncio.sleep(_LINGER_SECONDS)
                if self._buffer:
                    request = Request(new_id(), Counter(self._buffer))
                    self._buffer.clear()
                    self._ledger.send(request, self._offered)
                    tasks.create_task(self._send(request))

    async def _offer(self) -> None:
        while not self.stopping.is_set():
            await asyncio.sleep(self._chance.expovariate(_EVENTS_PER_SECOND))
            self._offered += 1
            self._buffer.append(draw_key(self._chance, self._prefix))
            self._ledger.offer(self._offered, self._buffer[-1])

    async def _send(self, request: Request) -> None:
        """Until there is a receipt."""
        while True:
            try:
                receipt = await self._client.process_many(
                    columns_of(request), request_id=request.request_id, timeout=_CALL_SECONDS
                )
            except TallyError as error:
                self._ledger.fail(error.reason)
                await asyncio.sleep(self._chance.uniform(0, _PAUSE_SECONDS))
            else:
                self._ledger.acknowledge(
                    request, receipt.accepted_count, receipt.duplicate_count, receipt.durability
                )
                return


async def main(path: Path, address: str, prefix: str, seed: int) -> None:
    kept = read_ledger(path)
    ledger = LedgerFile(path)
    ledger.begin()
    async with Client(address) as client:
        sender = Sender(client, ledger, prefix, random.Random(seed))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sender.stopping.set)
        await sender.run(kept.ledger.unknown)
    ledger.close()


if __name__ == "__main__":
    _, path, address, prefix, seed = sys.argv
    asyncio.run(main(Path(path), address, prefix, int(seed)))
