"""A replay while the service does not answer."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.progress import Progress

from services.cli.partitioner.pieces import Piece, ReplayIds
from services.cli.partitioner.replay import Replay
from services.cli.partitioner.sending import Answer, Sender
from services.cli.terminal.failure import UNKNOWN
from tally.client import Event, NotSent, OutcomeUnknown, Receipt
from tally.client.answers import Durability
from tally.client.blocking import Client
from tally.client.request_id import RequestIds
from tests.integration.tally.peer import Peer, open_peer
from tests.support.peer import Context, never_answer

PATIENCE_S = 600.0


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with open_peer() as peer:
        yield peer


def piece(line: int = 1) -> Piece:
    return Piece(line, line, [Event("v")], [line])


def sender_of(client: Client, patience_s: float = PATIENCE_S) -> Sender:
    return Sender(client, ReplayIds(uuid.UUID(RequestIds().make())), patience_s)


class Impatient(Client):
    """A client whose breaker keeps the first request back."""

    is_first = True

    def process_many(self, *_: object, request_id: str | None = None, **__: object) -> Receipt:
        if self.is_first:
            self.is_first = False
            raise NotSent("the breaker is open", reason="BREAKER_OPEN")
        return Receipt(request_id or "", 1, 0, Durability.JOURNALED)


async def test_what_was_not_sent_is_sent_again_and_not_called_refused(peer: Peer) -> None:
    def use() -> None:
        with Impatient(peer.address) as client, Progress(disable=True) as report:
            replay = Replay(peer.address, report, skip_bad=True)
            list(replay.run([piece()], sender_of(client)))
            assert (replay.totals.counted, replay.totals.refused) == (1, 0)

            client.is_first = True
            impatient = Replay(peer.address, report, skip_bad=True)
            list(impatient.run([piece()], sender_of(client, patience_s=0.0)))
            assert (impatient.totals.counted, impatient.totals.refused) == (0, 0)
            assert impatient.failure is not None
            assert impatient.failure.exit_code == UNKNOWN

    await asyncio.to_thread(use)


async def test_a_sender_that_is_stopped_waits_neither_for_its_patience_nor_for_its_attempt(
    peer: Peer,
) -> None:
    arrived = threading.Event()

    async def arrive(payload: bytes, context: Context) -> None:
        arrived.set()
        await never_answer(payload, context)

    def use() -> Answer:
        with Client(peer.address) as client, ThreadPoolExecutor(1) as threads:
            sender = sender_of(client)
            sending = threads.submit(sender.send, piece())
            assert arrived.wait(10)
            sender.stop()
            return sending.result(10)  # an attempt has 20 s

    peer.turns.extend([arrive] * 10)
    answer = await asyncio.to_thread(use)
    assert isinstance(answer.error, OutcomeUnknown)
