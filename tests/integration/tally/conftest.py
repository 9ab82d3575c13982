import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from tally.client import Client
from tests.integration.tally.peer import Peer, open_peer
from tests.integration.tally.threaded import open_threaded

OpenClient: TypeAlias = Callable[..., AbstractAsyncContextManager[Client]]
SOURCE = Path(__file__).parents[3] / "libs" / "tally"
IGNORED = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with open_peer() as peer:
        yield peer


@pytest.fixture(params=[Client, open_threaded], ids=["asyncio", "blocking"])
def open_client(request: pytest.FixtureRequest) -> OpenClient:
    """The asynchronous client and the blocking one, opened by the same arguments and called in the same way."""
    opener: OpenClient = request.param
    return opener


@pytest.fixture
async def client(peer: Peer, open_client: OpenClient) -> AsyncIterator[Client]:
    async with open_client(peer.address) as client:
        yield client


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as what an earlier build left behind would get into it."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(SOURCE, folder / "source", ignore=IGNORED)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(  # noqa: S603 - no part of it comes from outside
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built
