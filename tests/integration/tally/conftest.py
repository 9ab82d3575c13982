from collections.abc import AsyncIterator

import pytest

from tally.client import Client
from tests.integration.tally.peer import Peer, open_peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with open_peer() as peer:
        yield peer


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[Client]:
    async with Client(peer.address) as client:
        yield client
