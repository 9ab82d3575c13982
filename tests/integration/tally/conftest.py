import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tally.client import Client
from tests.integration.tally.peer import Peer, open_peer

SOURCE = Path(__file__).parents[3] / "libs" / "tally"
IGNORED = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with open_peer() as peer:
        yield peer


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[Client]:
    async with Client(peer.address) as client:
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
