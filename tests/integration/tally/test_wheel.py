"""The wheel is built and used as by someone who installs it alone: with its dependencies and nothing else."""

import asyncio
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.integration.tally.peer import Peer

ROOT = Path(__file__).parents[3]
IGNORED = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")

USE = """
import sys
sys.path[:0] = sys.argv[2:]
import tally
from tally.client import Durability
from tally.client.blocking import Client

assert tally.__file__.startswith(sys.argv[2]), tally.__file__
with Client(sys.argv[1]) as client:
    assert client.count("v").durability is Durability.JOURNALED
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as what an earlier build left behind would get into it."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "libs" / "tally", folder / "source", ignore=IGNORED)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(  # noqa: S603 - no part of it comes from outside
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def required(name: str) -> Iterator[str]:
    """The distribution and all that it requires here, extras left out."""
    yield name
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from required(requirement.name)


def test_the_wheel_holds_the_client_the_generated_code_and_its_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    protos = list((ROOT / "proto").glob("tally/*/v1/*.proto"))
    assert protos
    for proto in protos:
        path = f"{proto.relative_to(ROOT / 'proto').with_suffix('')}_pb2"
        assert {f"{path}.py", f"{path}.pyi", f"{path}_grpc.py"} <= names
    client = ROOT / "libs" / "tally" / "tally" / "client"
    assert {f"tally/client/{path.name}" for path in client.glob("*.py")} <= names
    assert "tally/py.typed" in names
    assert all(name.startswith(("tally/", "tally_client-")) for name in names)


async def test_the_wheel_counts_with_its_dependencies_alone(wheel: Path, tmp_path: Path, peer: Peer) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    requirements = [
        Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist")
    ]
    direct = [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    assert sorted(direct) == ["googleapis-common-protos", "grpcio", "protobuf"]
    for name in {name for start in direct for name in required(start)}:
        for file in distribution(name).files or ():
            if file.parts[0] != ".." and file.suffix != ".pyc":
                link = tmp_path / "dependencies" / file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.locate())
    script = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-B", "-c", USE, peer.address),
        *(str(tmp_path / "wheel"), str(tmp_path / "dependencies")),
        stderr=subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(script.communicate(), 30)
    assert script.returncode == 0, errors.decode()
    assert len(peer.received) == 1
