"""The client of its own process, on a service that falls silent."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.table.ledger import read_ledger
from tests.integration.tally.peer import batch_of, open_peer
from tests.support.eventually import eventually
from tests.support.peer import never_answer, pass_by


@pytest.mark.exact
async def test_a_killed_client_sends_again_what_had_no_answer_and_nothing_of_what_lay_in_its_buffer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger"

    async def is_in_the_middle() -> bool:
        kept = read_ledger(path)
        is_silent = len(peer.turns) < 100  # what is under way now gets no answer
        return bool(is_silent and kept.ledger.acknowledged and kept.unanswered)

    async def has_caught_up() -> bool:
        kept = read_ledger(path)
        return unanswered.isdisjoint(batch.request_id for batch in kept.unanswered)

    async with open_peer() as peer:
        peer.turns.extend([pass_by] * 3 + [never_answer] * 100)
        first = start(path, peer.address, seed=1)
        try:
            await eventually(is_in_the_middle)
        finally:
            first.kill()
            first.wait()
        peer.turns.clear()
        unanswered = {batch.request_id for batch in read_ledger(path).unanswered}
        assert unanswered
        second = start(path, peer.address, seed=5)
        try:
            await eventually(has_caught_up)
            second.terminate()
            assert await asyncio.to_thread(second.wait, 20) == 0
        finally:
            second.kill()
            second.wait()
        sent = [batch_of(each) for each in peer.received if each.rpc in ("StreamEvents", "ProcessEvents")]
    kept = read_ledger(path)
    assert kept.lost.total() > 0
    assert kept.ledger.wrong == []
    assert kept.ledger.unknown == []
    assert {(batch.request_id, batch.SerializeToString()) for batch in sent} == {
        (batch.request_id, batch.payload) for batch in kept.batches.values()
    }


def start(ledger: Path, address: str, seed: int) -> "subprocess.Popen[bytes]":
    """A life of the client; the seed also says by which transport it sends."""
    arguments = (str(ledger), address, "video ", str(seed))
    return subprocess.Popen([sys.executable, "-m", "tests.fault.table.sender", *arguments])  # noqa: S603 - ours
